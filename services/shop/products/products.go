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

type product struct {
	ID    int64  `json:"id"`
	Title string `json:"title"`
	Image string `json:"image"`
}

// products keeps each product as a file of its folder, which is a volume that no other service reaches.
type products struct {
	murmur string     // where the sidecar listens
	folder string     // where the files are
	create sync.Mutex // one creation at a time: two of one id must not both succeed
	note   sync.Mutex // one purchase at a time
}

// routes are for whoever reaches the service.
func (p *products) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /products", p.post)
	routes.HandleFunc("GET /products", p.list)
	routes.HandleFunc("GET /products/{id}", p.get)
	routes.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return routes
}

// private is for the sidecar alone: no other pod reaches this port.
func (p *products) private() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /events/orders", p.ordered)
	routes.HandleFunc("POST /queries/user-product", p.query)
	return routes
}

func (p *products) post(w http.ResponseWriter, r *http.Request) {
	var wanted product
	if err := read(w, r, &wanted); err != nil || wanted.ID < 1 || wanted.Title == "" {
		answer(w, http.StatusBadRequest, problem{`send a product such as {"id": 5, "title": "pants", "image": "pants.jpeg"}`})
		return
	}
	p.create.Lock()
	defer p.create.Unlock()
	var kept product
	if err := load(p.path(wanted.ID), &kept); err == nil && kept != wanted {
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
	if err := save(p.path(wanted.ID), wanted); err != nil {
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
	var kept product
	switch err := load(p.path(id), &kept); {
	case errors.Is(err, os.ErrNotExist):
		answer(w, http.StatusNotFound, problem{fmt.Sprintf("there is no product %d", id)})
	case err != nil:
		answer(w, http.StatusInternalServerError, problem{err.Error()})
	default:
		answer(w, http.StatusOK, kept)
	}
}

// list answers /products?id=5&id=20: those of them that exist, in the order of asking.
func (p *products) list(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()["id"]
	if len(asked) < 1 || len(asked) > 100 {
		answer(w, http.StatusBadRequest, problem{"ask for one to 100 products, such as /products?id=5&id=20"})
		return
	}
	var ids []int64
	for _, text := range asked {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			answer(w, http.StatusBadRequest, problem{"the id of a product is a number"})
			return
		}
		ids = append(ids, id)
	}
	p.tell(w, ids)
}

// tell answers with those of these products that exist.
func (p *products) tell(w http.ResponseWriter, ids []int64) {
	found := []product{}
	for _, id := range ids {
		var kept product
		err := load(p.path(id), &kept)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			answer(w, http.StatusInternalServerError, problem{err.Error()})
			return
		}
		found = append(found, kept)
	}
	answer(w, http.StatusOK, found)
}

func (p *products) path(id int64) string {
	return filepath.Join(p.folder, fmt.Sprintf("product-%d.json", id))
}
