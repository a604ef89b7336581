// products is service B of the shop: it keeps the catalogue.
//
// It knows nothing of other services and nothing of the event bus. That a
// product was created it says with one POST to the Murmur sidecar beside it;
// whoever wants to know has subscribed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

type product struct {
	ID    int64  `json:"id"`
	Title string `json:"title"`
	Image string `json:"image"`
}

func main() {
	murmur := os.Getenv("MURMUR_URL")
	if murmur == "" {
		log.Print("MURMUR_URL is not set: run products as a Microservice, or set it to the URL of a Murmur sidecar")
		os.Exit(64)
	}
	products := &products{murmur: murmur, folder: "/data"}
	server := &http.Server{Addr: ":8080", Handler: products.routes(), ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}

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

// products keeps each product as a file of its folder, which is a volume that no other service reaches.
type products struct {
	murmur string     // where the sidecar listens
	folder string     // where the files are
	create sync.Mutex // one creation at a time: two of one id must not both succeed
}

func (p *products) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /products", p.post)
	routes.HandleFunc("GET /products/{id}", p.get)
	routes.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return routes
}

func (p *products) post(w http.ResponseWriter, r *http.Request) {
	var wanted product
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&wanted); err != nil || wanted.ID < 1 || wanted.Title == "" {
		answer(w, http.StatusBadRequest, problem{`send a product such as {"id": 5, "title": "pants", "image": "pants.jpeg"}`})
		return
	}
	p.create.Lock()
	defer p.create.Unlock()
	if kept, err := p.load(wanted.ID); err == nil && kept != wanted {
		answer(w, http.StatusConflict, problem{fmt.Sprintf("product %d exists already", wanted.ID)})
		return
	}
	// The event first: once it is stored the product exists for everyone. Should this service die before it has
	// kept the product itself, the client, which got no answer, asks again; the event's id makes that harmless.
	id := fmt.Sprintf("product-%d", wanted.ID)
	if err := publish(r.Context(), p.murmur, "ProductCreated", id, id, wanted); err != nil {
		refuse(w, err)
		return
	}
	if err := p.save(wanted); err != nil {
		answer(w, http.StatusInternalServerError, problem{fmt.Sprintf("cannot keep product %d: %v", wanted.ID, err)})
		return
	}
	answer(w, http.StatusCreated, wanted)
}

func (p *products) get(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		answer(w, http.StatusBadRequest, problem{"the id of a product is a number"})
		return
	}
	kept, err := p.load(id)
	if errors.Is(err, os.ErrNotExist) {
		answer(w, http.StatusNotFound, problem{fmt.Sprintf("there is no product %d", id)})
		return
	}
	if err != nil {
		answer(w, http.StatusInternalServerError, problem{err.Error()})
		return
	}
	answer(w, http.StatusOK, kept)
}

func (p *products) path(id int64) string {
	return filepath.Join(p.folder, fmt.Sprintf("product-%d.json", id))
}

func (p *products) load(id int64) (kept product, err error) {
	text, err := os.ReadFile(p.path(id))
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	return kept, err
}

// save writes beside and renames: after a crash the file is there whole or not at all.
func (p *products) save(wanted product) error {
	file, err := os.CreateTemp(p.folder, "new-*")
	if err != nil {
		return err
	}
	err = errors.Join(json.NewEncoder(file).Encode(wanted), file.Sync(), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), p.path(wanted.ID))
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
