package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

type user struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// users keeps each user as a file of its folder, which is a volume that no other service reaches.
type users struct {
	murmur string     // where the sidecar listens
	folder string     // where the files are
	create sync.Mutex // one creation at a time: two of one id must not both succeed
}

// routes are for whoever reaches the service.
func (u *users) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /users", u.post)
	routes.HandleFunc("GET /users/{id}", u.get)
	routes.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return routes
}

// private is for the sidecar alone: no other pod reaches this port.
func (u *users) private() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /queries/user-product", u.query)
	return routes
}

func (u *users) post(w http.ResponseWriter, r *http.Request) {
	var wanted user
	if err := read(w, r, &wanted); err != nil || wanted.ID < 1 || wanted.Name == "" {
		answer(w, http.StatusBadRequest, problem{`send a user such as {"id": 1, "name": "Ada"}`})
		return
	}
	u.create.Lock()
	defer u.create.Unlock()
	var kept user
	if err := load(u.path(wanted.ID), &kept); err == nil && kept != wanted {
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
	if err := save(u.path(wanted.ID), wanted); err != nil {
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
	u.tell(w, id)
}

// query answers the part of a UserProductQuery that is about users: who it is, or that there is no such user.
func (u *users) query(w http.ResponseWriter, r *http.Request) {
	var asked struct{ User int64 }
	if err := read(w, r, &asked); err != nil || asked.User < 1 {
		answer(w, http.StatusBadRequest, problem{`a UserProductQuery is such as {"user": 1}`})
		return
	}
	u.tell(w, asked.User)
}

func (u *users) tell(w http.ResponseWriter, id int64) {
	var kept user
	switch err := load(u.path(id), &kept); {
	case errors.Is(err, os.ErrNotExist):
		answer(w, http.StatusNotFound, problem{fmt.Sprintf("there is no user %d", id)})
	case err != nil:
		answer(w, http.StatusInternalServerError, problem{err.Error()})
	default:
		answer(w, http.StatusOK, kept)
	}
}

func (u *users) path(id int64) string {
	return filepath.Join(u.folder, fmt.Sprintf("user-%d.json", id))
}
