package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// What the sidecar makes before the service starts.
const outbox = `CREATE TABLE IF NOT EXISTS murmur_outbox (position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	id TEXT NOT NULL, type TEXT NOT NULL, partitionkey TEXT, data TEXT NOT NULL)`

var pool *pgxpool.Pool

func TestMain(m *testing.M) {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		log.Fatal("these tests need a Postgres: services/with-database.sh postgres go test .")
	}
	var err error
	if pool, err = pgxpool.New(context.Background(), url); err != nil {
		log.Fatal(err)
	}
	os.Exit(m.Run())
}

// service starts with an empty database.
func service(t *testing.T) http.Handler {
	t.Helper()
	if _, err := pool.Exec(t.Context(), `DROP TABLE IF EXISTS posts, murmur_outbox; `+outbox); err != nil {
		t.Fatal(err)
	}
	store := &store{pool: pool}
	store.prepare(t.Context())
	return (&posts{store}).routes()
}

func ask(service http.Handler, method, path, body string) (int, string) {
	answer := httptest.NewRecorder()
	service.ServeHTTP(answer, httptest.NewRequest(method, path, strings.NewReader(body)))
	return answer.Code, strings.TrimSpace(answer.Body.String())
}

// events gives what the sidecar would publish.
func events(t *testing.T) (found []string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT type || ' ' || id || ' ' || partitionkey || ' ' || data FROM murmur_outbox ORDER BY position`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			t.Fatal(err)
		}
		found = append(found, row)
	}
	return found
}

const hello = `{"id":"1","title":"Hello","body":"I am here."}`

func TestAPostIsKeptAndSaidInOneTransaction(t *testing.T) {
	service := service(t)
	if status, body := ask(service, "POST", "/posts", hello); status != 201 || body != hello {
		t.Fatalf("got %d %s", status, body)
	}
	if said := events(t); len(said) != 1 || said[0] != "PostWritten post-1 post-1 "+hello {
		t.Fatalf("said %v", said)
	}
	if status, body := ask(service, "GET", "/posts/1", ""); status != 200 || body != hello {
		t.Fatalf("got %d %s", status, body)
	}
}

func TestAPostThatCannotBeSaidIsNotKept(t *testing.T) {
	service := service(t)
	if _, err := pool.Exec(t.Context(), `DROP TABLE murmur_outbox`); err != nil {
		t.Fatal(err)
	}
	if status, _ := ask(service, "POST", "/posts", hello); status != 503 {
		t.Fatalf("got %d", status)
	}
	if status, body := ask(service, "GET", "/posts", ""); status != 200 || body != "[]" {
		t.Fatalf("got %d %s", status, body)
	}
}

func TestAPostThatIsSentTwiceIsSaidOnce(t *testing.T) {
	service := service(t)
	for range 2 {
		if status, body := ask(service, "POST", "/posts", hello); status != 201 {
			t.Fatalf("got %d %s", status, body)
		}
	}
	if said := events(t); len(said) != 1 {
		t.Fatalf("said %v", said)
	}
	if status, _ := ask(service, "POST", "/posts", strings.Replace(hello, "Hello", "Goodbye", 1)); status != 409 {
		t.Fatalf("got %d", status)
	}
}

func TestThePostsAreListedTheNewestFirst(t *testing.T) {
	service := service(t)
	for _, title := range []string{"first", "second"} {
		if status, body := ask(service, "POST", "/posts", `{"title":"`+title+`"}`); status != 201 {
			t.Fatalf("got %d %s", status, body)
		}
	}
	_, body := ask(service, "GET", "/posts", "")
	var listed []post
	if err := json.Unmarshal([]byte(body), &listed); err != nil || len(listed) != 2 {
		t.Fatalf("%v: %s", err, body)
	}
	if listed[0].Title != "second" || listed[1].Title != "first" || listed[0].ID == "" {
		t.Fatalf("got %v", listed)
	}
}

func TestWrongRequestsAreRefused(t *testing.T) {
	service := service(t)
	for _, body := range []string{"", "{", "[]", `{"body":"no title"}`, `{"id":"a/b","title":"x"}`, `{"title":7}`} {
		if status, answer := ask(service, "POST", "/posts", body); status != 400 {
			t.Errorf("%s: got %d %s", body, status, answer)
		}
	}
	if status, _ := ask(service, "GET", "/posts/9", ""); status != 404 {
		t.Errorf("got %d", status)
	}
}

func TestADatabaseThatIsAwayMakesRequestsFailAndTheServiceNotReady(t *testing.T) {
	away, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none?connect_timeout=1")
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	store := &store{pool: away}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	store.prepare(ctx) // tries again, until it is told to stop
	service := (&posts{store}).routes()
	for _, path := range []string{"/posts", "/posts/1", "/readyz"} {
		if status, body := ask(service, "GET", path, ""); status != 503 {
			t.Errorf("%s: got %d %s", path, status, body)
		}
	}
	if status, _ := ask(service, "POST", "/posts", hello); status != 503 {
		t.Errorf("got %d", status)
	}
}
