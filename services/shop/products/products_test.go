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

const shoes = `{"id":20,"title":"shoes","image":"shoes.png"}`

func TestSeveralProductsAreAskedForAtOnce(t *testing.T) {
	murmur, _ := sidecar(t, 200)
	service := (&products{murmur: murmur, folder: t.TempDir()}).routes()
	ask(service, "POST", "/products", pants)
	ask(service, "POST", "/products", shoes)
	if answer := ask(service, "GET", "/products?id=20&id=7&id=5", ""); answer.Code != 200 || answer.Body.String() != "["+shoes+","+pants+"]\n" {
		t.Errorf("got %d %s", answer.Code, answer.Body)
	}
	for _, query := range []string{"", "?id=x", "?id=1" + strings.Repeat("&id=1", 100)} {
		if answer := ask(service, "GET", "/products"+query, ""); answer.Code != 400 {
			t.Errorf("%s: got %d %s", query, answer.Code, answer.Body)
		}
	}
}

func TestAQueryGivesTheProductsThatTheUserBoughtAndTheyOutliveTheProcess(t *testing.T) {
	murmur, _ := sidecar(t, 200)
	folder := t.TempDir()
	service := &products{murmur: murmur, folder: folder}
	ask(service.routes(), "POST", "/products", pants)
	ask(service.routes(), "POST", "/products", shoes)
	for _, event := range []string{`{"id":"a","user":1,"product":20}`, `{"id":"b","user":1,"product":5}`, `{"id":"a","user":1,"product":20}`, `{"id":"c","user":1,"product":99}`} {
		if answer := ask(service.private(), "POST", "/events/orders", event); answer.Code != 204 {
			t.Fatalf("%s: got %d %s", event, answer.Code, answer.Body)
		}
	}
	again := (&products{folder: folder}).private()
	for user, want := range map[string]string{`{"user":1}`: "[" + shoes + "," + pants + "]\n", `{"user":2}`: "[]\n"} {
		if answer := ask(again, "POST", "/queries/user-product", user); answer.Code != 200 || answer.Body.String() != want {
			t.Errorf("%s: got %d %s", user, answer.Code, answer.Body)
		}
	}
}

func TestAnEventOrAQueryThatIsNoneIsRejected(t *testing.T) {
	service := &products{folder: t.TempDir()}
	for _, body := range []string{"", "[]", "{}", `{"user":"1","product":5}`} {
		for _, path := range []string{"/events/orders", "/queries/user-product"} {
			if answer := ask(service.private(), "POST", path, body); answer.Code != 400 {
				t.Errorf("%s %s: got %d", path, body, answer.Code)
			}
			if answer := ask(service.routes(), "POST", path, body); answer.Code != 404 {
				t.Errorf("other pods reach %s: %d", path, answer.Code)
			}
		}
	}
}
