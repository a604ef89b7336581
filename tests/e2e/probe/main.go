// Probe is the service of the end-to-end tests: it publishes on demand,
// records what it is sent, asks and answers, misbehaves when it is told to, and
// tries to get at what is another's.
//
// It knows nothing but HTTP: MURMUR_URL to publish, a path to be delivered to.
//
//	8080  the service: control, and /emit and /called for callers
//	8081  deliveries and queries, on a port of its own that can be closed
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// pod is the name of the pod that this is.
var pod, _ = os.Hostname()

func main() {
	received := &recorder{forward: os.Getenv("RECORD_URL"), store: os.Getenv("RECORD_FILE")}
	if err := received.load(); err != nil {
		log.Fatal(err)
	}
	deliveries := &door{handler: received.handler()}
	if err := deliveries.open(); err != nil {
		log.Fatal(err)
	}
	load := &loadGenerator{}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("POST /emit", emit)
	mux.HandleFunc("POST /load", load.start)
	mux.HandleFunc("GET /load", func(w http.ResponseWriter, _ *http.Request) { answer(w, load.result()) })
	mux.HandleFunc("GET /received", func(w http.ResponseWriter, _ *http.Request) { answer(w, received.all()) })
	mux.HandleFunc("POST /record", received.record)
	mux.HandleFunc("PUT /rules", received.setRules)
	mux.HandleFunc("POST /talk", talk)
	mux.HandleFunc("/called/{status}", called)
	mux.HandleFunc("PUT /door/{state}", deliveries.set)
	mux.HandleFunc("PUT /disk/{state}", disk)
	mux.HandleFunc("GET /reach", reach)
	mux.HandleFunc("GET /files", files)
	mux.HandleFunc("GET /environment", environment)

	server := &http.Server{Addr: ":8080", Handler: mux}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	go func() {
		<-stop.Done()
		ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = deliveries.shutdown(ending)
		_ = server.Shutdown(ending)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
