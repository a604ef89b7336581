package main

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// door is the port of deliveries. Closed, it refuses connections as a service
// that is down does.
type door struct {
	handler http.Handler

	mu     sync.Mutex
	server *http.Server
}

func (d *door) open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:8081")
	if err != nil {
		return err
	}
	d.server = &http.Server{Handler: d.handler}
	go func(server *http.Server) { _ = server.Serve(listener) }(d.server)
	return nil
}

func (d *door) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.server == nil {
		return nil
	}
	err := d.server.Close()
	d.server = nil
	return err
}

func (d *door) shutdown(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.server == nil {
		return nil
	}
	return d.server.Shutdown(ctx)
}

func (d *door) set(w http.ResponseWriter, request *http.Request) {
	change := d.open
	if request.PathValue("state") == "closed" {
		change = d.close
	}
	if err := change(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
