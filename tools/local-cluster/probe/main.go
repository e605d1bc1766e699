// Command probe is the whole content of the image that the cluster's test runs
// in its pods: a small web server, a client that waits for one, and cat.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const getLimit = 30 * time.Second

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: probe serve TEXT | probe get URL | probe cat FILE")
		os.Exit(2)
	}
	act := map[string]func(string) error{"serve": serve, "get": get, "cat": cat}[os.Args[1]]
	if act == nil {
		fmt.Fprintln(os.Stderr, "probe: unknown verb", os.Args[1])
		os.Exit(2)
	}
	if err := act(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func serve(text string) error {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, text) })
	return http.ListenAndServe(":8080", nil)
}

// get prints what the server answers as soon as it answers.
func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	began := time.Now()
	for {
		err := tryGet(&client, url)
		if err == nil || time.Since(began) > getLimit {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func tryGet(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func cat(file string) error {
	text, err := os.ReadFile(file)
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	return err
}
