package kinesisapi_test

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

// Programs in any language reach a server over HTTP.
func ExampleServer() {
	db, err := braid.Open("data", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	api, err := kinesisapi.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}

	server := &http.Server{Addr: "localhost:4567", Handler: api, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // SubscribeToShard of some SDKs asks for it
	server.RegisterOnShutdown(api.Close)       // subscriptions would keep it waiting
	log.Fatal(server.ListenAndServe())
}

// One HTTP server serves a plain port and a TLS port. On both, clients speak HTTP/1.1 or
// HTTP/2; ALPN is optional.
func ExampleTLSListener() {
	db, err := braid.Open("data", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	api, err := kinesisapi.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := tls.LoadX509KeyPair("cert.pem", "key.pem")
	if err != nil {
		log.Fatal(err)
	}
	plain, err := net.Listen("tcp", "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	secure, err := net.Listen("tcp", "localhost:4568")
	if err != nil {
		log.Fatal(err)
	}

	server := &http.Server{Handler: api, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // on the TLS port, too
	server.RegisterOnShutdown(api.Close)
	go server.Serve(&kinesisapi.TLSListener{
		Listener: secure,
		Config:   &tls.Config{Certificates: []tls.Certificate{certificate}},
	})
	log.Fatal(server.Serve(plain))
}

// With ExactLimits a stream accepts only what Kinesis would; without, it is as fast as
// the machine.
func ExampleOptions_exactLimits() {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	server, err := kinesisapi.New(db, &kinesisapi.Options{
		ExactLimits: true,
		CreateDelay: 10 * time.Second,
		UpdateDelay: 10 * time.Second,
		DeleteDelay: 10 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	fmt.Println(server != nil)
	// Output: true
}
