package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

type post struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Body  string `json:"body"`
}

var (
	errTaken = errors.New("there is another post of this id")
	errNone  = errors.New("there is no such post")
)

// store keeps the posts in a database that no other service reaches.
type store struct {
	pool     *pgxpool.Pool
	prepared atomic.Bool
}

const table = `CREATE TABLE IF NOT EXISTS posts (
	position BIGINT GENERATED ALWAYS AS IDENTITY, id TEXT PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL)`

// prepare makes the table. The database may still be starting: it is asked until it answers.
func (s *store) prepare(ctx context.Context) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := s.pool.Exec(attempt, table)
		cancel()
		if err == nil {
			s.prepared.Store(true)
			return
		}
		log.Printf("cannot prepare the database, trying again: %v", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// add keeps a post and says so, both or neither: the row in murmur_outbox is in the same transaction, and what is
// committed there becomes an event. Repeating it is harmless; another post of the same id is errTaken.
func (s *store) add(ctx context.Context, wanted post) error {
	data, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		kept, err := tx.Exec(ctx, `INSERT INTO posts (id, title, body) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING`,
			wanted.ID, wanted.Title, wanted.Body)
		if err != nil {
			return err
		}
		if kept.RowsAffected() == 0 {
			return s.same(ctx, tx, wanted)
		}
		// The key is the post: what happens to it reaches each subscriber in this order.
		_, err = tx.Exec(ctx, `INSERT INTO murmur_outbox (id, type, partitionkey, data) VALUES ($1, 'PostWritten', $2, $3)`,
			"post-"+wanted.ID, "post-"+wanted.ID, string(data))
		return err
	})
}

func (s *store) same(ctx context.Context, tx pgx.Tx, wanted post) error {
	var kept post
	err := tx.QueryRow(ctx, `SELECT id, title, body FROM posts WHERE id = $1`, wanted.ID).Scan(&kept.ID, &kept.Title, &kept.Body)
	if err == nil && kept != wanted {
		return errTaken
	}
	return err
}

// get gives one post, or errNone.
func (s *store) get(ctx context.Context, id string) (post, error) {
	var kept post
	err := s.pool.QueryRow(ctx, `SELECT id, title, body FROM posts WHERE id = $1`, id).Scan(&kept.ID, &kept.Title, &kept.Body)
	if errors.Is(err, pgx.ErrNoRows) {
		return kept, fmt.Errorf("%w: %s", errNone, id)
	}
	return kept, err
}

// latest gives the newest posts, the newest first.
func (s *store) latest(ctx context.Context, count int) ([]post, error) {
	rows, err := s.pool.Query(ctx, `SELECT id, title, body FROM posts ORDER BY position DESC LIMIT $1`, count)
	if err != nil {
		return nil, err
	}
	kept, err := pgx.CollectRows(rows, pgx.RowToStructByPos[post])
	if kept == nil {
		kept = []post{}
	}
	return kept, err
}
