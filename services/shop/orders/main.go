// orders is service C of the shop: it takes orders.
//
// It calls no other service and knows nothing of the event bus. That an order
// was placed it says with one POST to the Murmur sidecar beside it, and hears
// itself, as every subscriber does: its own list of orders comes from there.
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	murmur := os.Getenv("MURMUR_URL")
	if murmur == "" {
		log.Print("MURMUR_URL is not set: run orders as a Microservice, or set it to the URL of a Murmur sidecar")
		os.Exit(64)
	}
	orders := &orders{murmur: murmur, folder: "/data"}
	serve(map[string]http.Handler{":8080": orders.routes(), "127.0.0.1:8081": orders.private()})
}
