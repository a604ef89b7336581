// posts is the blog's service of posts: it takes them and keeps them in a Postgres of its own.
//
// It calls no other service and knows nothing of the event bus, not even a URL. That a post was written it says with
// one more row in the transaction that keeps the post (see store.go): the Murmur sidecar publishes what was committed.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		log.Print("DATABASE_URL is not set: run posts as posts.yaml has it, or set it to the URL of a Postgres")
		os.Exit(64)
	}
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		log.Fatalf("DATABASE_URL is not the URL of a Postgres: %v", err)
	}
	defer pool.Close()
	store := &store{pool: pool}
	go store.prepare(context.Background())
	serve(map[string]http.Handler{":8080": (&posts{store}).routes()})
}
