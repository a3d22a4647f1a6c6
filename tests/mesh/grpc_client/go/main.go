// A gRPC client in Go whose only configuration is its bootstrap. It speaks as caller.py does: for each line `call NAME`
// on stdin one on stdout, with the status of a health check.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds"
)

func main() {
	credentials, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		panic(err)
	}
	channels := map[string]*grpc.ClientConn{}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		_, name, _ := strings.Cut(lines.Text(), " ")
		if channels[name] == nil {
			if channels[name], err = grpc.NewClient("xds:///"+name, grpc.WithTransportCredentials(credentials)); err != nil {
				panic(err)
			}
		}
		began := time.Now()
		answer := map[string]any{"status": call(channels[name]), "seconds": time.Since(began).Seconds()}
		text, _ := json.Marshal(answer)
		fmt.Println(string(text))
	}
}

func call(channel *grpc.ClientConn) string {
	within, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := healthpb.NewHealthClient(channel).Check(within, &healthpb.HealthCheckRequest{})
	if err != nil {
		return strings.ToUpper(status.Code(err).String()) + ": " + status.Convert(err).Message()
	}
	return "OK"
}
