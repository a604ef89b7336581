package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// serve answers on these addresses until the process is told to stop; what was asked by then is answered still.
func serve(handlers map[string]http.Handler) {
	stopped, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	var servers sync.WaitGroup
	for address, handler := range handlers {
		server := &http.Server{Addr: address, Handler: handler, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		servers.Go(func() {
			if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
				log.Fatalf("cannot serve on %s: %v", address, err)
			}
		})
		servers.Go(func() {
			<-stopped.Done()
			_ = server.Shutdown(context.Background())
		})
	}
	servers.Wait()
}

type problem struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have gone
}
