// orders is service C of the shop: it takes orders.
//
// It needs no database: an order is a fact, and facts are kept by the event
// store. It knows nothing of other services and nothing of the event bus: one
// POST to the Murmur sidecar beside it says that an order was placed.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type order struct {
	ID      string `json:"id"`
	User    int64  `json:"user"`
	Product int64  `json:"product"`
}

func main() {
	murmur := os.Getenv("MURMUR_URL")
	if murmur == "" {
		log.Print("MURMUR_URL is not set: run orders as a Microservice, or set it to the URL of a Murmur sidecar")
		os.Exit(64)
	}
	server := &http.Server{Addr: ":8080", Handler: routes(murmur), ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}

	stopped, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	finished := make(chan struct{})
	go func() {
		<-stopped.Done()
		_ = server.Shutdown(context.Background()) // answers what was asked, then ends
		close(finished)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatalf("cannot serve on port 8080: %v", err)
	}
	<-finished
}

func routes(murmur string) http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) { place(murmur, w, r) })
	routes.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return routes
}

func place(murmur string, w http.ResponseWriter, r *http.Request) {
	var placed order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&placed); err != nil || placed.User < 1 || placed.Product < 1 {
		answer(w, http.StatusBadRequest, problem{`send an order such as {"user": 1, "product": 5}`})
		return
	}
	// A client that is not sure whether its order was taken sends it again with the id that it chose.
	if placed.ID == "" {
		placed.ID = rand.Text()
	}
	// The key is the user: their orders reach each subscriber in the order of purchase.
	key := fmt.Sprintf("user-%d", placed.User)
	if err := publish(r.Context(), murmur, "OrderPlaced", placed.ID, key, placed); err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusCreated, placed)
}

// ---- all there is to know about Murmur ----

var client = &http.Client{Timeout: 15 * time.Second}

// unavailable says that the event bus could not take an event now; the same may be asked again later.
type unavailable struct{ retryAfter, cause string }

func (u unavailable) Error() string { return "the event bus cannot take the event: " + u.cause }

// publish hands an event to the sidecar. No error means that the bus has stored it. Events of one key reach each
// subscriber in this order; an event whose id was stored before (within minutes) is not stored again.
func publish(ctx context.Context, murmur, eventType, id, key string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, murmur+"/v1/events/"+eventType, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("content-type", "application/json")
	request.Header.Set("ce-id", id)
	request.Header.Set("ce-partitionkey", key)
	response, err := client.Do(request)
	if err != nil {
		return unavailable{"1", err.Error()}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	switch {
	case err != nil:
		return unavailable{"1", err.Error()}
	case response.StatusCode == http.StatusOK:
		return nil
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode > http.StatusInternalServerError:
		return unavailable{response.Header.Get("retry-after"), string(text)}
	default:
		return fmt.Errorf("the sidecar refused the event %s: %s %s", id, response.Status, text)
	}
}

// ---- answers ----

type problem struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have gone
}

// refuse passes it on when the bus is away: the client may ask again, nothing was lost.
func refuse(w http.ResponseWriter, err error) {
	log.Print(err)
	var away unavailable
	if !errors.As(err, &away) {
		answer(w, http.StatusInternalServerError, problem{err.Error()})
		return
	}
	if away.retryAfter == "" {
		away.retryAfter = "1"
	}
	w.Header().Set("retry-after", away.retryAfter)
	answer(w, http.StatusServiceUnavailable, problem{err.Error()})
}
