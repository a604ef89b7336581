package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func try(t *testing.T, status int, body string) (answer *httptest.ResponseRecorder, event *http.Request, data string) {
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		event, data = r, string(text)
		w.WriteHeader(status)
	}))
	defer sidecar.Close()
	answer = httptest.NewRecorder()
	routes(sidecar.URL).ServeHTTP(answer, httptest.NewRequest("POST", "/orders", strings.NewReader(body)))
	return answer, event, data
}

func TestAnOrderIsAnsweredOnceTheEventIsStored(t *testing.T) {
	answer, event, data := try(t, 200, `{"user":1,"product":5}`)
	var placed order
	if err := json.Unmarshal(answer.Body.Bytes(), &placed); err != nil || answer.Code != 201 || placed.ID == "" {
		t.Fatalf("got %d %s", answer.Code, answer.Body)
	}
	if event.URL.Path != "/v1/events/OrderPlaced" || event.Header.Get("ce-partitionkey") != "user-1" || event.Header.Get("ce-id") != placed.ID {
		t.Fatalf("the sidecar got %s %v", event.URL, event.Header)
	}
	if strings.TrimSpace(answer.Body.String()) != data {
		t.Fatalf("answered %s, published %s", answer.Body, data)
	}
}

func TestAClientMayChooseTheIdAndAskAgain(t *testing.T) {
	_, event, _ := try(t, 200, `{"id":"mine","user":1,"product":5}`)
	if id := event.Header.Get("ce-id"); id != "mine" {
		t.Fatalf("got %s", id)
	}
}

func TestAnOrderThatTheBusCannotTakeIsNotTaken(t *testing.T) {
	for _, status := range []int{429, 503, 504, 507} {
		answer, _, _ := try(t, status, `{"user":1,"product":5}`)
		if answer.Code != 503 || answer.Header().Get("retry-after") != "1" {
			t.Errorf("%d: got %d %v", status, answer.Code, answer.Header())
		}
	}
	if answer, _, _ := try(t, 403, `{"user":1,"product":5}`); answer.Code != 500 {
		t.Errorf("got %d", answer.Code)
	}
}

func TestWrongRequestsAreRefused(t *testing.T) {
	for _, body := range []string{"", "{", `{"user":0,"product":5}`, `{"user":1}`} {
		if answer, event, _ := try(t, 200, body); answer.Code != 400 || event != nil {
			t.Errorf("%s: got %d", body, answer.Code)
		}
	}
}
