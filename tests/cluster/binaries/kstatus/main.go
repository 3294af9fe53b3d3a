// kstatus prints what Flux, Argo CD's and kpt's library makes of objects' statuses.
//
// It reads a JSON list of objects from standard input and prints a JSON list of the same length,
// each with the computed status ("Current", "InProgress", "Failed", ...) and its message.
package main

import (
	"io"
	"log"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type result struct {
	Status  status.Status `json:"status"`
	Message string        `json:"message"`
}

func main() {
	log.SetFlags(0)
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	var objects []any
	// Kubernetes' own: whole numbers are int64, as the API machinery wants them.
	if err := json.Unmarshal(text, &objects); err != nil {
		log.Fatalf("standard input is no JSON list of objects: %v", err)
	}
	results := make([]result, 0, len(objects))
	for _, object := range objects {
		computed, err := status.Compute(&unstructured.Unstructured{Object: object.(map[string]any)})
		if err != nil {
			log.Fatal(err)
		}
		results = append(results, result{computed.Status, computed.Message})
	}
	answer, err := json.Marshal(results)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(append(answer, '\n')); err != nil {
		log.Fatal(err)
	}
}
