package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const patience = 5 * time.Second // for the database to answer

// Posts with their comments, those of each in the order in which they were written.
const joined = `
SELECT json_build_object('id', posts.id, 'title', posts.title, 'body', posts.body, 'comments', coalesce((
	SELECT json_agg(json_build_object('id', id, 'text', text, 'status', status) ORDER BY written, id)
	FROM comments WHERE comments.post = posts.id), '[]'))
FROM posts `

type query struct{ pool *pgxpool.Pool }

func (q *query) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /posts", q.list)
	routes.HandleFunc("GET /posts/{id}", q.get)
	routes.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return routes
}

func (q *query) list(w http.ResponseWriter, r *http.Request) {
	found, err := q.ask(r.Context(), joined+`ORDER BY posts.id LIMIT 100`)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, found)
}

func (q *query) get(w http.ResponseWriter, r *http.Request) {
	found, err := q.ask(r.Context(), joined+`WHERE posts.id = $1`, r.PathValue("id"))
	switch {
	case err != nil:
		refuse(w, err)
	case len(found) == 0:
		answer(w, http.StatusNotFound, problem{"there is no post " + r.PathValue("id")})
	default:
		answer(w, http.StatusOK, found[0])
	}
}

func (q *query) ask(ctx context.Context, sql string, values ...any) ([]json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rows, err := q.pool.Query(ctx, sql, values...)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[json.RawMessage])
	if errors.Is(err, pgx.ErrNoRows) || found == nil {
		found = []json.RawMessage{}
	}
	return found, err
}

// refuse: the database is away, or so new that the projection has not made its tables yet.
func refuse(w http.ResponseWriter, err error) {
	log.Print(err)
	w.Header().Set("retry-after", "1")
	answer(w, http.StatusServiceUnavailable, problem{"the database does not answer: ask again"})
}
