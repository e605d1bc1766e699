package main

import (
	"fmt"
	"net"
	"net/http"
	"time"
)

// probeLimit is for one look at a component; the next one comes soon.
const probeLimit = 2 * time.Second

// A connection that was begun before the proxy's rules were there goes nowhere
// for good, so none is waited for long.
const connectLimit = 200 * time.Millisecond

func etcdHealthy() error       { return answersOK("http://" + etcdAddress + "/health") }
func dnsReady() error          { return answersOK(dnsReadyURL) }
func containerdAnswers() error { return connects("unix", containerdSocket) }
func serviceReachable() error  { return connects("tcp", net.JoinHostPort(apiServiceIP, "443")) }

func connects(network, address string) error {
	connection, err := net.DialTimeout(network, address, connectLimit)
	if err != nil {
		return err
	}
	return connection.Close()
}

func answersOK(url string) error {
	client := http.Client{Timeout: probeLimit}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return nil
}
