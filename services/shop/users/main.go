// users is service A of the shop: it signs users up and keeps them.
//
// It knows nothing of other services and nothing of the event bus. That a user
// was created it says with one POST to the Murmur sidecar beside it; whoever
// wants to know has subscribed.
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	murmur := os.Getenv("MURMUR_URL")
	if murmur == "" {
		log.Print("MURMUR_URL is not set: run users as a Microservice, or set it to the URL of a Murmur sidecar")
		os.Exit(64)
	}
	users := &users{murmur: murmur, folder: "/data"}
	serve(map[string]http.Handler{":8080": users.routes(), "127.0.0.1:8081": users.private()})
}
