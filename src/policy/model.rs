//! What models of the whole system are made of: an API server that keeps one object a name, caches that lag behind it, and dice that a
//! failing run can be replayed with. Tests only; the machines under test are the real ones.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Runs a model for many seeds, says how many, and names the seed that failed. `MODEL_SEED=N` runs that one alone, `MODEL_RUNS=N` so many.
pub fn schedules(name: &str, default: u64, mut run: impl FnMut(&mut Dice)) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("MODEL_SEED") {
        run(&mut Dice::new(seed));
        println!("FIGURE {name}: seed {seed} replayed");
        return;
    }
    let runs = number("MODEL_RUNS").unwrap_or(default);
    for seed in 0..runs {
        let replay = Replay(seed);
        run(&mut Dice::new(seed));
        std::mem::forget(replay);
    }
    println!("FIGURE {name}: {runs} schedules");
}

/// Says the seed while a failed run unwinds.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        eprintln!("the model failed; replay it with MODEL_SEED={}", self.0);
    }
}

/// Randomness from a seed.
#[derive(Debug)]
pub struct Dice(SmallRng);

impl Dice {
    /// The same seed throws the same.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// 0 to `sides` - 1.
    pub fn throw(&mut self, sides: usize) -> usize {
        self.0.random_range(0..sides.max(1))
    }

    /// True once in `sides` throws.
    pub fn once_in(&mut self, sides: usize) -> bool {
        self.throw(sides) == 0
    }

    /// A number in `[0, 1)`.
    pub fn jitter(&mut self) -> f64 {
        self.0.random()
    }
}

/// Somebody else was faster, or the object is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// One state of an object.
#[derive(Clone, Debug)]
pub struct Versioned<T> {
    /// Its resourceVersion; versions of one server only grow.
    pub version: u64,
    /// The object.
    pub object: T,
}

/// An API server: objects by name, one growing version for all, and all states that ever were, for caches that lag.
#[derive(Debug)]
pub struct ApiServer<T> {
    version: u64,
    log: Vec<(u64, String, Option<T>)>,
    live: BTreeMap<String, Versioned<T>>,
}

impl<T: Clone> Default for ApiServer<T> {
    fn default() -> Self {
        Self {
            version: 0,
            log: Vec::new(),
            live: BTreeMap::new(),
        }
    }
}

impl<T: Clone> ApiServer<T> {
    /// A live read.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Versioned<T>> {
        self.live.get(name).cloned()
    }

    /// Names of all objects.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.live.keys().cloned().collect()
    }

    /// Writes whatever is there; creates the object when it is not. Gives the new version.
    pub fn put(&mut self, name: &str, object: T) -> u64 {
        self.version += 1;
        self.log.push((self.version, name.to_owned(), Some(object.clone())));
        let stored = Versioned {
            version: self.version,
            object,
        };
        self.live.insert(name.to_owned(), stored);
        self.version
    }

    /// Writes only over the state `seen`; `None` creates only what is not there.
    ///
    /// # Errors
    /// [`Conflict`] when the object has another state.
    pub fn put_if(&mut self, name: &str, object: T, seen: Option<u64>) -> Result<u64, Conflict> {
        if self.live.get(name).map(|stored| stored.version) != seen {
            return Err(Conflict);
        }
        Ok(self.put(name, object))
    }

    /// Deletes.
    pub fn delete(&mut self, name: &str) {
        if self.live.remove(name).is_some() {
            self.version += 1;
            self.log.push((self.version, name.to_owned(), None));
        }
    }
}

/// What a watch has delivered so far: a state of the whole server that was true once and never goes back.
#[derive(Debug)]
pub struct Cache<T> {
    read: usize,
    seen: BTreeMap<String, Versioned<T>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            read: 0,
            seen: BTreeMap::new(),
        }
    }
}

impl<T: Clone> Cache<T> {
    /// Receives at most `events` more.
    pub fn receive(&mut self, server: &ApiServer<T>, events: usize) {
        for (version, name, state) in server.log.iter().skip(self.read).take(events) {
            match state {
                Some(object) => {
                    let stored = Versioned {
                        version: *version,
                        object: object.clone(),
                    };
                    self.seen.insert(name.clone(), stored);
                }
                None => {
                    self.seen.remove(name);
                }
            }
        }
        self.read = (self.read + events).min(server.log.len());
    }

    /// Receives everything.
    pub fn catch_up(&mut self, server: &ApiServer<T>) {
        self.receive(server, usize::MAX - self.read);
    }

    /// An object as the cache has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Versioned<T>> {
        self.seen.get(name)
    }

    /// All objects as the cache has them.
    pub fn all(&self) -> impl Iterator<Item = (&String, &Versioned<T>)> {
        self.seen.iter()
    }
}

#[test]
fn a_cache_lags_and_conditional_writes_see_it() {
    let mut server = ApiServer::default();
    let first = server.put_if("a", 1, None).unwrap();
    let mut cache = Cache::default();
    cache.receive(&server, 1);
    let second = server.put_if("a", 2, Some(first)).unwrap();
    assert_eq!(cache.get("a").unwrap().object, 1);
    assert_eq!(server.put_if("a", 3, Some(first)), Err(Conflict));
    cache.catch_up(&server);
    assert_eq!(cache.get("a").unwrap().version, second);
    server.delete("a");
    cache.catch_up(&server);
    assert_eq!((cache.all().count(), server.names().len()), (0, 0));
}
