// The yardstick in Go: net/http and franz-go, acks=all, linger 0, no compression; answers when Kafka has it.
// It stores nothing of its own: while Kafka is away, it answers nothing.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

const answer = `{"code":200,"message":"success"}`

func main() {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(os.Getenv("KAFKA_BOOTSTRAP_SERVERS")),
		kgo.DefaultProduceTopic(os.Getenv("TOPIC")),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(100_000),
	)
	if err != nil {
		log.Fatal(err)
	}
	token := os.Getenv("TOKEN")
	http.HandleFunc("/callbacks/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || strings.TrimPrefix(r.URL.Path, "/callbacks/") != token {
			http.NotFound(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1_000_000))
		if err != nil {
			http.Error(w, "", http.StatusRequestEntityTooLarge)
			return
		}
		done := make(chan error, 1)
		client.Produce(r.Context(), &kgo.Record{Value: body}, func(_ *kgo.Record, err error) { done <- err })
		if err := <-done; err != nil {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, answer)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
