package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Delivery is what was received, in the order of arrival.
type Delivery struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Key      string `json:"key"`
	Sequence uint64 `json:"sequence"`
	Attempt  int    `json:"attempt"`
	Replay   string `json:"replay"`
	Pod      string `json:"pod"`
	Token    bool   `json:"token"`
	Status   int    `json:"status"`
}

// Rule makes the receiver misbehave for the events whose id starts with Prefix.
type Rule struct {
	Prefix string `json:"prefix"`
	Status int    `json:"status"`
	Delay  string `json:"delay"`
}

// recorder keeps what is delivered: in memory, in a file when store is set, or
// with the probe at forward (which outlives this one) before it answers.
type recorder struct {
	forward string
	store   string

	mu         sync.Mutex
	deliveries []Delivery
	rules      []Rule
}

func (r *recorder) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /events", r.deliver)
	mux.HandleFunc("POST /queries", r.asked)
	return mux
}

func (r *recorder) deliver(w http.ResponseWriter, request *http.Request) {
	delivery := Delivery{
		ID:     request.Header.Get("ce-id"),
		Type:   request.Header.Get("ce-type"),
		Key:    request.Header.Get("ce-partitionkey"),
		Replay: request.Header.Get("murmur-replay"),
		Pod:    pod,
		Token:  request.Header.Get("Authorization") == "Bearer "+os.Getenv("MURMUR_TOKEN"),
		Status: http.StatusNoContent,
	}
	delivery.Sequence, _ = strconv.ParseUint(request.Header.Get("murmur-sequence"), 10, 64)
	delivery.Attempt, _ = strconv.Atoi(request.Header.Get("murmur-attempt"))
	if rule, found := r.rule(delivery.ID); found {
		delivery.Status = rule.Status
		rule.wait()
	}
	if err := r.keep(request.Context(), delivery); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(delivery.Status)
}

func (r *recorder) keep(ctx context.Context, delivery Delivery) error {
	line, err := json.Marshal(delivery)
	if err != nil {
		return err
	}
	if r.forward != "" {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.forward, bytes.NewReader(line))
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusNoContent {
			return fmt.Errorf("%s answered %s", r.forward, response.Status)
		}
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store != "" {
		file, err := os.OpenFile(r.store, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return err
		}
		defer file.Close()
		if _, err = file.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	r.deliveries = append(r.deliveries, delivery)
	return nil
}

// record takes a delivery that another probe forwards.
func (r *recorder) record(w http.ResponseWriter, request *http.Request) {
	var delivery Delivery
	if err := json.NewDecoder(request.Body).Decode(&delivery); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := r.keep(request.Context(), delivery); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// load reads what an earlier life of this probe has stored.
func (r *recorder) load() error {
	if r.store == "" {
		return nil
	}
	file, err := os.Open(r.store)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var delivery Delivery
		if err := json.Unmarshal(lines.Bytes(), &delivery); err != nil {
			return err
		}
		r.deliveries = append(r.deliveries, delivery)
	}
	return nil
}

func (r *recorder) all() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Delivery{}, r.deliveries...)
}

// rule gives the first rule for this id.
func (r *recorder) rule(id string) (Rule, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := slices.IndexFunc(r.rules, func(rule Rule) bool { return strings.HasPrefix(id, rule.Prefix) })
	if n < 0 {
		return Rule{}, false
	}
	return r.rules[n], true
}

func (r Rule) wait() {
	if wait, err := time.ParseDuration(r.Delay); err == nil {
		time.Sleep(wait)
	}
}

func (r *recorder) setRules(w http.ResponseWriter, request *http.Request) {
	var rules []Rule
	if err := json.NewDecoder(request.Body).Decode(&rules); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules = rules
	w.WriteHeader(http.StatusNoContent)
}
