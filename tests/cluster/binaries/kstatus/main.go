// kstatus prints what Flux, Argo CD's and kpt's library makes of objects' statuses.
//
// It reads a JSON list of objects from standard input and prints a JSON list of the same length,
// each with the computed status ("Current", "InProgress", "Failed", ...) and its message.
package main

import (
	"encoding/json"
	"log"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type result struct {
	Status  status.Status `json:"status"`
	Message string        `json:"message"`
}

func main() {
	log.SetFlags(0)
	var objects []map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		log.Fatalf("standard input is no JSON list of objects: %v", err)
	}
	results := make([]result, 0, len(objects))
	for _, object := range objects {
		computed, err := status.Compute(&unstructured.Unstructured{Object: object})
		if err != nil {
			log.Fatal(err)
		}
		results = append(results, result{computed.Status, computed.Message})
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		log.Fatal(err)
	}
}
