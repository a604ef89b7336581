// All there is to know about Murmur for a service that publishes: one POST to the sidecar beside it.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"
)

var client = &http.Client{Timeout: 15 * time.Second}

// unavailable says that the event bus could not take an event now; the same may be asked again later.
type unavailable struct{ retryAfter, cause string }

func (u unavailable) Error() string { return "the event bus cannot take the event: " + u.cause }

// publish hands an event to the sidecar. No error means that the bus has stored it. Events of one key reach each
// subscriber in this order; an event whose id was stored before (within minutes) is not stored again.
func publish(ctx context.Context, murmur, eventType, id, key string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, murmur+"/v1/events/"+eventType, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("content-type", "application/json")
	request.Header.Set("ce-id", id)
	request.Header.Set("ce-partitionkey", key)
	response, err := client.Do(request)
	if err != nil {
		return unavailable{"1", err.Error()}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	switch {
	case err != nil:
		return unavailable{"1", err.Error()}
	case response.StatusCode == http.StatusOK:
		return nil
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode > http.StatusInternalServerError:
		return unavailable{response.Header.Get("retry-after"), string(text)}
	default:
		return fmt.Errorf("the sidecar refused the event %s: %s %s", id, response.Status, text)
	}
}

// refuse passes it on when the bus is away: the client may ask again, nothing was lost.
func refuse(w http.ResponseWriter, err error) {
	log.Print(err)
	var away unavailable
	if !errors.As(err, &away) {
		answer(w, http.StatusInternalServerError, problem{err.Error()})
		return
	}
	if away.retryAfter == "" {
		away.retryAfter = "1"
	}
	w.Header().Set("retry-after", away.retryAfter)
	answer(w, http.StatusServiceUnavailable, problem{err.Error()})
}
