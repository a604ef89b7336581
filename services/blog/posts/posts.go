package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log"
	"net/http"
	"regexp"
	"time"
)

const (
	patience = 5 * time.Second // for the database to answer
	page     = 100             // posts in one answer
)

var id = regexp.MustCompile(`^[A-Za-z0-9-]{1,40}$`)

type posts struct{ store *store }

// routes are for whoever reaches the service.
func (p *posts) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /posts", p.write)
	routes.HandleFunc("GET /posts", p.list)
	routes.HandleFunc("GET /posts/{id}", p.get)
	routes.HandleFunc("GET /readyz", p.ready)
	return routes
}

func (p *posts) write(w http.ResponseWriter, r *http.Request) {
	var wanted post
	err := read(w, r, &wanted)
	// A client that is not sure whether its post was taken sends it again with the id that it chose.
	if wanted.ID == "" {
		wanted.ID = rand.Text()
	}
	if err != nil || !id.MatchString(wanted.ID) || wanted.Title == "" {
		answer(w, http.StatusBadRequest, problem{`send a post such as {"title": "Hello", "body": "I am here."}`})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if err := p.store.add(ctx, wanted); err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusCreated, wanted)
}

func (p *posts) list(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	kept, err := p.store.latest(ctx, page)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, kept)
}

func (p *posts) get(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	kept, err := p.store.get(ctx, r.PathValue("id"))
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, kept)
}

// ready once the table is there. A database that goes away later makes requests fail, with 503, and no more than that.
func (p *posts) ready(w http.ResponseWriter, _ *http.Request) {
	if !p.store.prepared.Load() {
		answer(w, http.StatusServiceUnavailable, problem{"the database has not answered yet"})
	}
}

func refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errNone):
		answer(w, http.StatusNotFound, problem{err.Error()})
	case errors.Is(err, errTaken):
		answer(w, http.StatusConflict, problem{err.Error()})
	default:
		log.Print(err)
		w.Header().Set("retry-after", "1")
		answer(w, http.StatusServiceUnavailable, problem{"the database does not answer: ask again"})
	}
}
