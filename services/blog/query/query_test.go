package main

import (
	"context"
	"log"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// The tables of query.yaml, as the sidecar has filled them.
const story = `
CREATE TABLE posts (id TEXT PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE comments (id TEXT NOT NULL, post TEXT NOT NULL, text TEXT NOT NULL, written TEXT NOT NULL,
	status TEXT NOT NULL DEFAULT 'pending', PRIMARY KEY (post, id));
INSERT INTO posts VALUES ('1', 'Hello', 'I am here.'), ('2', 'Bye', '');
INSERT INTO comments VALUES ('b', '1', 'First', '2026-11-21T20:00:00.000Z', 'approved');
INSERT INTO comments VALUES ('a', '1', 'Second', '2026-11-21T20:00:01.000Z')`

const (
	one = `{"id":"1","title":"Hello","body":"I am here.","comments":[` +
		`{"id":"b","text":"First","status":"approved"},{"id":"a","text":"Second","status":"pending"}]}`
	two = `{"id":"2","title":"Bye","body":"","comments":[]}`
)

func get(pool *pgxpool.Pool, path string) (int, string) {
	answer := httptest.NewRecorder()
	(&query{pool}).routes().ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
	return answer.Code, strings.TrimSpace(answer.Body.String())
}

func TestPostsComeWithTheirComments(t *testing.T) {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		log.Fatal("these tests need a Postgres: services/with-database.sh postgres go test .")
	}
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), `DROP TABLE IF EXISTS posts, comments`); err != nil {
		t.Fatal(err)
	}
	if status, body := get(pool, "/posts"); status != 503 {
		t.Fatalf("without the tables: got %d %s", status, body)
	}
	if _, err := pool.Exec(t.Context(), story); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/posts": "[" + one + "," + two + "]", "/posts/1": one} {
		if status, body := get(pool, path); status != 200 || body != want {
			t.Errorf("%s: got %d %s\nwant %s", path, status, body, want)
		}
	}
	if status, _ := get(pool, "/posts/9"); status != 404 {
		t.Errorf("got %d", status)
	}
}

func TestADatabaseThatIsAwayIsNoCrash(t *testing.T) {
	away, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none?connect_timeout=1")
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	if status, body := get(away, "/posts"); status != 503 {
		t.Errorf("got %d %s", status, body)
	}
}
