package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// load reads a file of JSON; os.ErrNotExist if there is none.
func load(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// save writes beside and renames: after a crash the file is there whole or not at all.
func save(path string, content any) error {
	file, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	err = errors.Join(json.NewEncoder(file).Encode(content), file.Sync(), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), path)
}
