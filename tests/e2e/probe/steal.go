package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Attempt is what came of trying to get at something: nothing but an error, one hopes.
type Attempt struct {
	Got   []string `json:"got"`
	Error string   `json:"error"`
}

// reach tries to connect to an address such as posts-db:5432.
func reach(w http.ResponseWriter, r *http.Request) {
	address := r.URL.Query().Get("address")
	connection, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		answer(w, Attempt{Error: err.Error()})
		return
	}
	_ = connection.Close()
	answer(w, Attempt{Got: []string{address}})
}

// files tries to read each file below a folder.
func files(w http.ResponseWriter, r *http.Request) {
	attempt := Attempt{}
	attempt.note(filepath.WalkDir(r.URL.Query().Get("folder"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			attempt.note(err)
			return fs.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		file, err := os.Open(path)
		if err != nil {
			attempt.note(err)
			return nil
		}
		defer file.Close()
		if _, err := file.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			attempt.Got = append(attempt.Got, path)
		} else {
			attempt.note(err)
		}
		return nil
	}))
	answer(w, attempt)
}

// environment tells what this container was given.
func environment(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(os.Environ()) }

// note keeps the first error.
func (a *Attempt) note(err error) {
	if err != nil && a.Error == "" && !errors.Is(err, fs.SkipDir) {
		a.Error = err.Error()
	}
}
