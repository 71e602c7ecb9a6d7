package main

import (
	"context"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	ctx := context.Background()
	cl, err := kgo.NewClient(kgo.SeedBrokers(os.Args[1]), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		panic(err)
	}
	adm := kadm.NewClient(cl)
	for topic, n := range map[string]int{"orders": 3, "payments": 2} {
		fmt.Println(adm.CreateTopic(ctx, int32(n), 1, nil, topic))
		for p := 0; p < n; p++ {
			for i := 0; i < 100; i++ {
				cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte(fmt.Sprint(i))}, nil)
			}
		}
	}
	cl.Flush(ctx)
	commit := func(g, t string, offs ...int64) {
		var os kadm.Offsets
		for p, o := range offs {
			os.AddOffset(t, int32(p), o, -1)
		}
		r, err := adm.CommitOffsets(ctx, g, os)
		fmt.Println(g, err, r.Error())
	}
	commit("order-processor", "orders", 50, 60, 70)
	commit("payment-service", "payments", 20, 30)
}
