// The CloudEvents SDK for Go as a client of a sidecar and as a receiver: see ../README.md.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: sdk-go publish URL | publish-batch URL | receive PORT | receive-batch PORT")
	}
	var err error
	switch os.Args[1] {
	case "publish":
		err = publish(os.Args[2])
	case "publish-batch":
		err = publishBatch(os.Args[2])
	case "receive":
		err = receive(os.Args[2])
	case "receive-batch":
		err = receiveBatch(os.Args[2])
	default:
		err = fmt.Errorf("%q is no verb", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}

func publish(target string) error {
	client, err := cloudevents.NewClientHTTP(cloudevents.WithTarget(target))
	if err != nil {
		return err
	}
	modes := map[string]func(context.Context) context.Context{
		"binary":     cloudevents.WithEncodingBinary,
		"structured": cloudevents.WithEncodingStructured,
	}
	for name, mode := range modes {
		for _, kind := range []string{"json", "bytes"} {
			event, err := newEvent(name+"-"+kind, kind)
			if err != nil {
				return err
			}
			if result := client.Send(mode(context.Background()), event); !cloudevents.IsACK(result) {
				return fmt.Errorf("%s: %w", event.ID(), result)
			}
		}
	}
	return nil
}

func publishBatch(target string) error {
	var events []cloudevents.Event
	for _, kind := range []string{"json", "bytes"} {
		event, err := newEvent("batch-"+kind, kind)
		if err != nil {
			return err
		}
		events = append(events, event)
	}
	request, err := cloudevents.NewHTTPRequestFromEvents(context.Background(), target, events)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the batch was answered %s", answer.Status)
	}
	return nil
}

func newEvent(name, kind string) (cloudevents.Event, error) {
	event := cloudevents.NewEvent()
	event.SetID("go-" + name)
	event.SetSource("/sdk/go")
	event.SetType("Tick")
	event.SetSubject("größe 1%")
	event.SetTime(time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
	event.SetExtension("partitionkey", "k")
	event.SetExtension("remark", "naïve \"quote\"")
	if kind == "json" {
		return event, event.SetData(cloudevents.ApplicationJSON, map[string]any{"text": "größer 😀", "number": 5})
	}
	return event, event.SetData("application/octet-stream", []byte{0, 255, 10})
}

func receive(port string) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	client, err := cloudevents.NewClientHTTP(cloudevents.WithPort(number), cloudevents.WithPath("/events"))
	if err != nil {
		return err
	}
	return client.StartReceiver(context.Background(), tell)
}

// receiveBatch is a server of its own: the SDK's receiver takes one event at a time.
func receiveBatch(port string) error {
	handler := func(response http.ResponseWriter, request *http.Request) {
		events, err := cloudevents.NewEventsFromHTTPRequest(request)
		for _, event := range events {
			err = errors.Join(err, tell(event))
		}
		if err != nil {
			http.Error(response, err.Error(), http.StatusInternalServerError)
			return
		}
		response.WriteHeader(http.StatusNoContent)
	}
	return http.ListenAndServe("127.0.0.1:"+port, http.HandlerFunc(handler))
}

// tell prints an event.
func tell(event cloudevents.Event) error {
	// This SDK does not decode what is percent-encoded in headers (CloudEvents HTTP binding, 3.1.3.2).
	remark, _ := event.Extensions()["remark"].(string)
	seen := map[string]any{
		"id": event.ID(), "source": event.Source(), "type": event.Type(), "subject": decoded(event.Subject()),
		"time": event.Time().UTC().Format(time.RFC3339), "datacontenttype": event.DataContentType(),
		"partitionkey": event.Extensions()["partitionkey"], "remark": decoded(remark),
	}
	if event.DataContentType() == cloudevents.ApplicationJSON {
		seen["data"] = json.RawMessage(event.Data())
	} else {
		seen["data"] = base64.StdEncoding.EncodeToString(event.Data())
	}
	return json.NewEncoder(os.Stdout).Encode(seen)
}

func decoded(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}
