package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// sidecar answers every event with this status and notes what it got.
func sidecar(t *testing.T, status int) (url string, got *[]string) {
	got = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*got = append(*got, strings.Join([]string{r.URL.Path, r.Header.Get("ce-id"), r.Header.Get("ce-partitionkey"), string(body)}, " "))
		w.Header().Set("retry-after", "7")
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server.URL, got
}

func ask(service http.Handler, method, path, body string) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	service.ServeHTTP(answer, httptest.NewRequest(method, path, strings.NewReader(body)))
	return answer
}

const ada = `{"id":1,"name":"Ada"}`

func TestAUserIsAnsweredOnceTheEventIsStoredAndOutlivesTheProcess(t *testing.T) {
	murmur, events := sidecar(t, 200)
	folder := t.TempDir()
	for range 2 { // the second time is a client that is not sure: same answer, same event id
		answer := ask((&users{murmur: murmur, folder: folder}).routes(), "POST", "/users", ada)
		if answer.Code != 201 || answer.Body.String() != ada+"\n" {
			t.Fatalf("got %d %s", answer.Code, answer.Body)
		}
	}
	event := "/v1/events/UserCreated user-1 user-1 " + ada
	if got := strings.Join(*events, "|"); got != event+"|"+event {
		t.Fatalf("the sidecar got %s", got)
	}
	answer := ask((&users{folder: folder}).routes(), "GET", "/users/1", "")
	if answer.Code != 200 || answer.Body.String() != ada+"\n" {
		t.Fatalf("after a restart: %d %s", answer.Code, answer.Body)
	}
}

func TestWhatTheBusDidNotStoreDoesNotExist(t *testing.T) {
	murmur, _ := sidecar(t, 503)
	service := (&users{murmur: murmur, folder: t.TempDir()}).routes()
	if answer := ask(service, "POST", "/users", ada); answer.Code != 503 || answer.Header().Get("retry-after") != "7" {
		t.Fatalf("got %d %s", answer.Code, answer.Header())
	}
	if answer := ask(service, "GET", "/users/1", ""); answer.Code != 404 {
		t.Fatalf("got %d %s", answer.Code, answer.Body)
	}
}

func TestWrongRequestsAreRefused(t *testing.T) {
	murmur, events := sidecar(t, 200)
	service := (&users{murmur: murmur, folder: t.TempDir()}).routes()
	for _, body := range []string{"", "{", "[]", `{"id":0,"name":"x"}`, `{"id":1}`, `{"id":"1","name":"x"}`} {
		if answer := ask(service, "POST", "/users", body); answer.Code != 400 {
			t.Errorf("%s: got %d", body, answer.Code)
		}
	}
	if len(*events) != 0 {
		t.Errorf("the sidecar got %s", *events)
	}
	ask(service, "POST", "/users", ada)
	if answer := ask(service, "POST", "/users", `{"id":1,"name":"Eve"}`); answer.Code != 409 {
		t.Errorf("another user of the same id: got %d", answer.Code)
	}
}

func TestAQueryTellsWhoTheUserIsOrThatThereIsNone(t *testing.T) {
	murmur, _ := sidecar(t, 200)
	service := &users{murmur: murmur, folder: t.TempDir()}
	ask(service.routes(), "POST", "/users", ada)
	for body, want := range map[string]int{`{"user":1}`: 200, `{"user":2}`: 404, `{"user":"1"}`: 400, `{}`: 400, "": 400} {
		answer := ask(service.private(), "POST", "/queries/user-product", body)
		if answer.Code != want || want == 200 && answer.Body.String() != ada+"\n" {
			t.Errorf("%s: got %d %s", body, answer.Code, answer.Body)
		}
	}
	if answer := ask(service.routes(), "POST", "/queries/user-product", `{"user":1}`); answer.Code != 404 {
		t.Errorf("other pods can query: %d", answer.Code)
	}
}
