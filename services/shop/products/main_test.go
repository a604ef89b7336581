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

const pants = `{"id":5,"title":"pants","image":"pants.jpeg"}`

func TestAProductIsAnsweredOnceTheEventIsStoredAndOutlivesTheProcess(t *testing.T) {
	murmur, events := sidecar(t, 200)
	folder := t.TempDir()
	for range 2 { // the second time is a client that is not sure: same answer, same event id
		answer := ask((&products{murmur: murmur, folder: folder}).routes(), "POST", "/products", pants)
		if answer.Code != 201 || answer.Body.String() != pants+"\n" {
			t.Fatalf("got %d %s", answer.Code, answer.Body)
		}
	}
	event := "/v1/events/ProductCreated product-5 product-5 " + pants
	if got := strings.Join(*events, "|"); got != event+"|"+event {
		t.Fatalf("the sidecar got %s", got)
	}
	answer := ask((&products{folder: folder}).routes(), "GET", "/products/5", "")
	if answer.Code != 200 || answer.Body.String() != pants+"\n" {
		t.Fatalf("after a restart: %d %s", answer.Code, answer.Body)
	}
}

func TestWhatTheBusDidNotStoreDoesNotExist(t *testing.T) {
	murmur, _ := sidecar(t, 503)
	service := (&products{murmur: murmur, folder: t.TempDir()}).routes()
	if answer := ask(service, "POST", "/products", pants); answer.Code != 503 || answer.Header().Get("retry-after") != "7" {
		t.Fatalf("got %d %s", answer.Code, answer.Header())
	}
	if answer := ask(service, "GET", "/products/5", ""); answer.Code != 404 {
		t.Fatalf("got %d %s", answer.Code, answer.Body)
	}
}

func TestWrongRequestsAreRefused(t *testing.T) {
	murmur, events := sidecar(t, 200)
	service := (&products{murmur: murmur, folder: t.TempDir()}).routes()
	for _, body := range []string{"", "{", "[]", `{"id":0,"title":"x"}`, `{"id":1}`, `{"id":"1","title":"x"}`} {
		if answer := ask(service, "POST", "/products", body); answer.Code != 400 {
			t.Errorf("%s: got %d", body, answer.Code)
		}
	}
	if len(*events) != 0 {
		t.Errorf("the sidecar got %s", *events)
	}
	ask(service, "POST", "/products", pants)
	if answer := ask(service, "POST", "/products", `{"id":5,"title":"socks"}`); answer.Code != 409 {
		t.Errorf("another product of the same id: got %d", answer.Code)
	}
}
