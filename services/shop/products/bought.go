package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
)

// ordered hears OrderPlaced: which products a user has bought is noted in one file for each user, in the order of
// purchase. An answer with 2xx makes Murmur go on to the next; after 400 the event never comes again; after 500 it does.
func (p *products) ordered(w http.ResponseWriter, r *http.Request) {
	var order struct{ User, Product int64 }
	if err := read(w, r, &order); err != nil || order.User < 1 || order.Product < 1 {
		answer(w, http.StatusBadRequest, problem{`an order is such as {"user": 1, "product": 5}`})
		return
	}
	p.note.Lock()
	defer p.note.Unlock()
	ids, err := p.bought(order.User)
	if err == nil && !slices.Contains(ids, order.Product) { // an event may come twice
		err = save(p.boughtPath(order.User), append(ids, order.Product))
	}
	if err != nil {
		answer(w, http.StatusInternalServerError, problem{fmt.Sprintf("cannot note the order: %v", err)})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// query answers the part of a UserProductQuery that is about products: title and image of those that the user bought.
func (p *products) query(w http.ResponseWriter, r *http.Request) {
	var asked struct{ User int64 }
	if err := read(w, r, &asked); err != nil || asked.User < 1 {
		answer(w, http.StatusBadRequest, problem{`a UserProductQuery is such as {"user": 1}`})
		return
	}
	ids, err := p.bought(asked.User)
	if err != nil {
		answer(w, http.StatusInternalServerError, problem{err.Error()})
		return
	}
	p.tell(w, ids)
}

func (p *products) bought(user int64) (ids []int64, err error) {
	if err = load(p.boughtPath(user), &ids); errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return ids, err
}

func (p *products) boughtPath(user int64) string {
	return filepath.Join(p.folder, fmt.Sprintf("bought-%d.json", user))
}
