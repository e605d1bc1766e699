//! A minimal proxy: what any proxy of this HTTP stack must do at least. Bodies pass in pieces as they come, connections are kept.

use std::net::SocketAddr;

use hyper::{
    Request, Response, Uri, body::Incoming, header, http::uri::PathAndQuery, server::conn::http1, service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

use crate::Failure;

type Upstream = Client<HttpConnector, Incoming>;

/// Serves until it is killed.
pub fn run(port: &str, upstream: &str) -> Result<(), Failure> {
    let listen = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
    let authority = format!("127.0.0.1:{upstream}");
    let driver = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    driver.block_on(serve(listen, authority))
}

async fn serve(listen: SocketAddr, authority: String) -> Result<(), Failure> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (client, authority) = (client.clone(), authority.clone());
        let service = service_fn(move |request| forward(client.clone(), authority.clone(), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn forward(
    client: Upstream,
    authority: String,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, Error> {
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let uri: Option<Uri> = format!("http://{authority}{path}").parse().ok();
    *request.uri_mut() = uri.unwrap_or_default();
    request.headers_mut().remove(header::HOST);
    client.request(request).await
}
