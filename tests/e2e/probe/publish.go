package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// Event is what /emit is asked to publish.
type Event struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Key  string `json:"key"`
	Size int    `json:"size"`
}

var client = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64},
}

// emit publishes one event through the sidecar and passes its answer on.
func emit(w http.ResponseWriter, r *http.Request) {
	var event Event
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	data, _ := json.Marshal(map[string]any{"id": event.ID, "filler": string(bytes.Repeat([]byte("x"), event.Size))})
	request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, os.Getenv("MURMUR_URL")+"/v1/events/"+event.Type, bytes.NewReader(data))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("ce-id", event.ID)
	if event.Key != "" {
		request.Header.Set("ce-partitionkey", event.Key)
	}
	response, err := client.Do(request)
	if err != nil {
		http.Error(w, "the sidecar did not answer: "+err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	for _, name := range []string{"Content-Type", "Retry-After"} {
		if value := response.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body)
}

// Load is a run of the load generator: count events at a steady rate, each by
// a request to url, over a number of keys.
type Load struct {
	URL    string  `json:"url"`
	Type   string  `json:"type"`
	Prefix string  `json:"prefix"`
	Count  int     `json:"count"`
	Rate   float64 `json:"rate"`
	Keys   int     `json:"keys"`
	Size   int     `json:"size"`
}

// Failure is one answer that was not 200.
type Failure struct {
	ID     string `json:"id"`
	Status int    `json:"status"`
	Body   string `json:"body"`
}

// Result is what a run saw.
type Result struct {
	Running  bool      `json:"running"`
	Acked    []string  `json:"acked"`
	Failed   int       `json:"failed"`
	Failures []Failure `json:"failures"`
}

type loadGenerator struct {
	mu   sync.Mutex
	last Result
}

func (l *loadGenerator) result() Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	copied := l.last
	copied.Acked = append([]string{}, l.last.Acked...)
	return copied
}

func (l *loadGenerator) start(w http.ResponseWriter, r *http.Request) {
	var load Load
	if err := json.NewDecoder(r.Body).Decode(&load); err != nil || load.Count < 1 || load.Rate <= 0 {
		http.Error(w, fmt.Sprintf("not a load: %v", err), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.Running {
		http.Error(w, "a load is running", http.StatusConflict)
		return
	}
	l.last = Result{Running: true, Acked: []string{}, Failures: []Failure{}}
	go l.run(load)
	w.WriteHeader(http.StatusAccepted)
}

func (l *loadGenerator) run(load Load) {
	var open sync.WaitGroup
	slots := make(chan struct{}, 256)
	began := time.Now()
	for n := range load.Count {
		time.Sleep(time.Until(began.Add(time.Duration(float64(n) / load.Rate * float64(time.Second)))))
		event := Event{ID: fmt.Sprintf("%s-%06d", load.Prefix, n), Type: load.Type, Size: load.Size}
		if load.Keys > 0 {
			event.Key = fmt.Sprintf("%s-key-%d", load.Prefix, n%load.Keys)
		}
		slots <- struct{}{}
		open.Add(1)
		go func() {
			defer open.Done()
			l.one(load.URL, event)
			<-slots
		}()
	}
	open.Wait()
	l.mu.Lock()
	l.last.Running = false
	l.mu.Unlock()
}

func (l *loadGenerator) one(url string, event Event) {
	failure := Failure{ID: event.ID}
	began := time.Now()
	response, err := post(url, event)
	// A connection that is refused has carried nothing: kube-proxy, on a busy machine, still leads to a pod that has gone.
	for errors.Is(err, syscall.ECONNREFUSED) && time.Since(began) < 10*time.Second {
		time.Sleep(100 * time.Millisecond)
		response, err = post(url, event)
	}
	if err == nil {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		response.Body.Close()
		failure.Status, failure.Body = response.StatusCode, string(text)
	} else {
		failure.Body = err.Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if failure.Status == http.StatusOK {
		l.last.Acked = append(l.last.Acked, event.ID)
		return
	}
	l.last.Failed++
	if len(l.last.Failures) < 20 {
		l.last.Failures = append(l.last.Failures, failure)
	}
}

func post(url string, event Event) (*http.Response, error) {
	body, _ := json.Marshal(event)
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	// The event's id makes the request safe to repeat: Go may then do so when
	// the server has closed an idle connection under it.
	request.Header.Set("Idempotency-Key", event.ID)
	return client.Do(request)
}
