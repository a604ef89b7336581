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
	(&orders{murmur: sidecar.URL, folder: t.TempDir()}).routes().ServeHTTP(answer, httptest.NewRequest("POST", "/orders", strings.NewReader(body)))
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

func ask(service http.Handler, method, path, body string) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	service.ServeHTTP(answer, httptest.NewRequest(method, path, strings.NewReader(body)))
	return answer
}

func TestTheOrdersOfAUserAreThoseThatItHeardOfInTheirOrder(t *testing.T) {
	const first, second = `{"id":"b","user":1,"product":20}`, `{"id":"a","user":1,"product":5}`
	folder := t.TempDir()
	service := &orders{folder: folder}
	for _, event := range []string{first, second, first, `{"id":"c","user":2,"product":5}`} {
		if answer := ask(service.private(), "POST", "/events/orders", event); answer.Code != 204 {
			t.Fatalf("%s: got %d %s", event, answer.Code, answer.Body)
		}
	}
	again, want := &orders{folder: folder}, "["+first+","+second+"]\n"
	if answer := ask(again.routes(), "GET", "/users/1/orders", ""); answer.Code != 200 || answer.Body.String() != want {
		t.Errorf("got %d %s", answer.Code, answer.Body)
	}
	if answer := ask(again.private(), "POST", "/queries/user-product", `{"user":1}`); answer.Code != 200 || answer.Body.String() != want {
		t.Errorf("got %d %s", answer.Code, answer.Body)
	}
	if answer := ask(again.routes(), "GET", "/users/9/orders", ""); answer.Code != 200 || answer.Body.String() != "[]\n" {
		t.Errorf("got %d %s", answer.Code, answer.Body)
	}
}

func TestAnEventOrAQueryThatIsNoneIsRejected(t *testing.T) {
	service := &orders{folder: t.TempDir()}
	for _, path := range []string{"/events/orders", "/queries/user-product"} {
		for _, body := range []string{"", "[]", "{}", `{"user":"1","product":5}`} {
			if answer := ask(service.private(), "POST", path, body); answer.Code != 400 {
				t.Errorf("%s %s: got %d", path, body, answer.Code)
			}
		}
		if answer := ask(service.routes(), "POST", path, `{"id":"a","user":1,"product":5}`); answer.Code != 404 {
			t.Errorf("other pods reach %s: %d", path, answer.Code)
		}
	}
	if answer := ask(service.routes(), "GET", "/users/x/orders", ""); answer.Code != 400 {
		t.Errorf("got %d", answer.Code)
	}
}
