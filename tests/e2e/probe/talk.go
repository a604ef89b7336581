package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Message is a request that the probe makes to its sidecar; Reply is what it gets.
type Message struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// Reply is the sidecar's answer, and how many milliseconds it took.
type Reply struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Millis  int64             `json:"millis"`
}

// talk makes a request to the sidecar: a query, a call, whatever the test wants.
func talk(w http.ResponseWriter, r *http.Request) {
	var message Message
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request, err := http.NewRequestWithContext(r.Context(), message.Method, os.Getenv("MURMUR_URL")+message.Path, bytes.NewReader([]byte(message.Body)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for name, value := range message.Headers {
		request.Header.Set(name, value)
	}
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		http.Error(w, "the sidecar did not answer: "+err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		http.Error(w, "the sidecar's answer broke off: "+err.Error(), http.StatusBadGateway)
		return
	}
	reply := Reply{Status: response.StatusCode, Headers: map[string]string{}, Body: string(body), Millis: time.Since(began).Milliseconds()}
	for name := range response.Header {
		reply.Headers[http.CanonicalHeaderKey(name)] = response.Header.Get(name)
	}
	answer(w, reply)
}

// Called is what the probe answers to a call or a query: which pod it is, and what it was asked.
type Called struct {
	Pod    string `json:"pod"`
	Method string `json:"method"`
	URI    string `json:"uri"`
	Body   string `json:"body"`
}

// called answers a request of another service, with the status that its path names.
func called(w http.ResponseWriter, r *http.Request) {
	status, err := strconv.Atoi(r.PathValue("status"))
	if err != nil || status < 200 || status > 599 {
		http.Error(w, "no such status", http.StatusBadRequest)
		return
	}
	tell(w, r, status)
}

// asked answers a query, as the rules want for the prefix "query".
func (r *recorder) asked(w http.ResponseWriter, request *http.Request) {
	status := http.StatusOK
	if rule, found := r.rule("query"); found {
		status = rule.Status
		rule.wait()
	}
	tell(w, request, status)
}

func tell(w http.ResponseWriter, r *http.Request, status int) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Called{Pod: pod, Method: r.Method, URI: r.RequestURI, Body: string(body)})
}
