package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
)

type order struct {
	ID      string `json:"id"`
	User    int64  `json:"user"`
	Product int64  `json:"product"`
}

// orders keeps the orders of each user as a file of its folder, which is a volume that no other service reaches.
type orders struct {
	murmur string     // where the sidecar listens
	folder string     // where the files are
	note   sync.Mutex // one order at a time
}

// routes are for whoever reaches the service.
func (o *orders) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /orders", o.place)
	routes.HandleFunc("GET /users/{id}/orders", o.get)
	routes.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return routes
}

// private is for the sidecar alone: no other pod reaches this port.
func (o *orders) private() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /events/orders", o.placed)
	routes.HandleFunc("POST /queries/user-product", o.query)
	return routes
}

// place takes an order once the event is stored. The file is written when the event comes back (placed): were it
// written here too, a crash between the two would leave one without the other.
func (o *orders) place(w http.ResponseWriter, r *http.Request) {
	var wanted order
	if err := read(w, r, &wanted); err != nil || !wanted.valid() {
		answer(w, http.StatusBadRequest, problem{`send an order such as {"user": 1, "product": 5}`})
		return
	}
	// A client that is not sure whether its order was taken sends it again with the id that it chose.
	if wanted.ID == "" {
		wanted.ID = rand.Text()
	}
	// The key is the user: their orders reach each subscriber in the order of purchase.
	key := fmt.Sprintf("user-%d", wanted.User)
	if err := publish(r.Context(), o.murmur, "OrderPlaced", wanted.ID, key, wanted); err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusCreated, wanted)
}

// placed hears OrderPlaced. An answer with 2xx makes Murmur go on to the next; after 400 the event never comes
// again; after 500 it does.
func (o *orders) placed(w http.ResponseWriter, r *http.Request) {
	var heard order
	if err := read(w, r, &heard); err != nil || !heard.valid() || heard.ID == "" {
		answer(w, http.StatusBadRequest, problem{`an order is such as {"id": "a", "user": 1, "product": 5}`})
		return
	}
	o.note.Lock()
	defer o.note.Unlock()
	kept, err := o.of(heard.User)
	if err == nil && !slices.Contains(kept, heard) { // an event may come twice
		err = save(o.path(heard.User), append(kept, heard))
	}
	if err != nil {
		answer(w, http.StatusInternalServerError, problem{fmt.Sprintf("cannot note the order: %v", err)})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (o *orders) get(w http.ResponseWriter, r *http.Request) {
	user, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		answer(w, http.StatusBadRequest, problem{"the id of a user is a number"})
		return
	}
	o.tell(w, user)
}

// query answers the part of a UserProductQuery that is about orders: what the user ordered, in the order of purchase.
func (o *orders) query(w http.ResponseWriter, r *http.Request) {
	var asked struct{ User int64 }
	if err := read(w, r, &asked); err != nil || asked.User < 1 {
		answer(w, http.StatusBadRequest, problem{`a UserProductQuery is such as {"user": 1}`})
		return
	}
	o.tell(w, asked.User)
}

func (o *orders) tell(w http.ResponseWriter, user int64) {
	kept, err := o.of(user)
	if err != nil {
		answer(w, http.StatusInternalServerError, problem{err.Error()})
		return
	}
	answer(w, http.StatusOK, kept)
}

// of gives a user's orders; whether there is such a user is not known here.
func (o *orders) of(user int64) ([]order, error) {
	kept := []order{}
	if err := load(o.path(user), &kept); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return kept, nil
}

func (o *orders) path(user int64) string {
	return filepath.Join(o.folder, fmt.Sprintf("orders-%d.json", user))
}

func (o order) valid() bool { return o.User > 0 && o.Product > 0 }
