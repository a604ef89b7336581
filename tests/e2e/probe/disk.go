package main

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"syscall"
)

// filler is what takes all the room of the volume at /disk.
const filler = "/disk/filler"

// disk leaves no room on that volume, or makes room again.
func disk(w http.ResponseWriter, request *http.Request) {
	change := fill
	if request.PathValue("state") == "free" {
		change = free
	}
	if err := change(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func fill() error {
	file, err := os.OpenFile(filler, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	for size := 1 << 20; size > 0; {
		_, err := file.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			return err
		}
	}
	return nil
}

func free() error {
	if err := os.Remove(filler); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
