// users is service A of the shop: it signs users up and keeps them.
//
// It knows nothing of other services and nothing of the event bus. That a user
// was created it says with one POST to the Murmur sidecar beside it; whoever
// wants to know has subscribed.
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

type user struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

func main() {
	murmur := os.Getenv("MURMUR_URL")
	if murmur == "" {
		log.Print("MURMUR_URL is not set: run users as a Microservice, or set it to the URL of a Murmur sidecar")
		os.Exit(64)
	}
	users := &users{murmur: murmur, folder: "/data"}
	server := &http.Server{Addr: ":8080", Handler: users.routes(), ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}

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

// users keeps each user as a file of its folder, which is a volume that no other service reaches.
type users struct {
	murmur string     // where the sidecar listens
	folder string     // where the files are
	create sync.Mutex // one creation at a time: two of one id must not both succeed
}

func (u *users) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /users", u.post)
	routes.HandleFunc("GET /users/{id}", u.get)
	routes.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return routes
}

func (u *users) post(w http.ResponseWriter, r *http.Request) {
	var wanted user
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&wanted); err != nil || wanted.ID < 1 || wanted.Name == "" {
		answer(w, http.StatusBadRequest, problem{`send a user such as {"id": 1, "name": "Ada"}`})
		return
	}
	u.create.Lock()
	defer u.create.Unlock()
	if kept, err := u.load(wanted.ID); err == nil && kept != wanted {
		answer(w, http.StatusConflict, problem{fmt.Sprintf("user %d exists already", wanted.ID)})
		return
	}
	// The event first: once it is stored the user exists for everyone. Should this service die before it has
	// kept the user itself, the client, which got no answer, asks again; the event's id makes that harmless.
	id := fmt.Sprintf("user-%d", wanted.ID)
	if err := publish(r.Context(), u.murmur, "UserCreated", id, id, wanted); err != nil {
		refuse(w, err)
		return
	}
	if err := u.save(wanted); err != nil {
		answer(w, http.StatusInternalServerError, problem{fmt.Sprintf("cannot keep user %d: %v", wanted.ID, err)})
		return
	}
	answer(w, http.StatusCreated, wanted)
}

func (u *users) get(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		answer(w, http.StatusBadRequest, problem{"the id of a user is a number"})
		return
	}
	kept, err := u.load(id)
	if errors.Is(err, os.ErrNotExist) {
		answer(w, http.StatusNotFound, problem{fmt.Sprintf("there is no user %d", id)})
		return
	}
	if err != nil {
		answer(w, http.StatusInternalServerError, problem{err.Error()})
		return
	}
	answer(w, http.StatusOK, kept)
}

func (u *users) path(id int64) string {
	return filepath.Join(u.folder, fmt.Sprintf("user-%d.json", id))
}

func (u *users) load(id int64) (kept user, err error) {
	text, err := os.ReadFile(u.path(id))
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	return kept, err
}

// save writes beside and renames: after a crash the file is there whole or not at all.
func (u *users) save(wanted user) error {
	file, err := os.CreateTemp(u.folder, "new-*")
	if err != nil {
		return err
	}
	err = errors.Join(json.NewEncoder(file).Encode(wanted), file.Sync(), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), u.path(wanted.ID))
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
