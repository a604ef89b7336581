// query is the blog's query service: posts with their comments, for reading.
//
// It asks no other service and hears no events: its tables are a projection (see query.yaml), which Murmur keeps up to
// date in a Postgres of its own. What is left to do is one SELECT.
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
		log.Print("DATABASE_URL is not set: run query as query.yaml has it, or set it to the URL of a Postgres")
		os.Exit(64)
	}
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		log.Fatalf("DATABASE_URL is not the URL of a Postgres: %v", err)
	}
	defer pool.Close()
	serve(map[string]http.Handler{":8080": (&query{pool}).routes()})
}
