// products is service B of the shop: it keeps the catalogue.
//
// It calls no other service and knows nothing of the event bus. That a product
// was created it says with one POST to the Murmur sidecar beside it; whoever
// wants to know has subscribed. That a product was ordered it hears as a POST.
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	murmur := os.Getenv("MURMUR_URL")
	if murmur == "" {
		log.Print("MURMUR_URL is not set: run products as a Microservice, or set it to the URL of a Murmur sidecar")
		os.Exit(64)
	}
	products := &products{murmur: murmur, folder: "/data"}
	serve(map[string]http.Handler{":8080": products.routes(), "127.0.0.1:8081": products.private()})
}
