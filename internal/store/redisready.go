package store

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Ready implements [Store] by PING. In a Cluster one node that answers is
// enough: taking every replica out of service because one of ten nodes is down
// would turn a tenth of an outage into a whole one.
//
// The first time it succeeds it also looks, on each master and as far as the
// user may, for settings that lose sessions or links, and logs them.
func (r *Redis) Ready(ctx context.Context) error {
	limit, cancel := r.within(ctx)
	defer cancel()
	if err := failed(ctx, "ping", r.client.Ping(limit).Err()); err != nil {
		return err
	}
	r.advised.Do(func() {
		for _, text := range r.Advice(ctx) {
			r.logger.WarnContext(ctx, "redis is set up in a way that can lose sessions or links", "advice", text)
		}
	})
	return nil
}

// Advice says in plain words what in Redis's settings should be changed. What
// the user may not read (CONFIG GET is often forbidden) is not looked at.
func (r *Redis) Advice(ctx context.Context) []string {
	limit, cancel := r.within(ctx)
	defer cancel()
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok {
		return advise(limit, r.client)
	}
	found := make(chan []string, 1)
	found <- nil
	_ = cluster.ForEachMaster(limit, func(ctx context.Context, master *redis.Client) error {
		texts := advise(ctx, master)
		found <- merge(<-found, texts)
		return nil
	})
	return <-found
}

func merge(into, texts []string) []string {
	for _, text := range texts {
		if !strings.Contains(strings.Join(into, "\n"), text) {
			into = append(into, text)
		}
	}
	return into
}

func advise(ctx context.Context, server redis.Cmdable) []string {
	var advice []string
	memory, _ := server.Info(ctx, "memory").Result()
	if policy := infoField(memory, "maxmemory_policy"); policy != "" && policy != "noeviction" && infoField(memory, "maxmemory") != "0" {
		advice = append(advice, "maxmemory-policy is "+policy+": under memory pressure Redis drops sessions, and links with allkeys; set noeviction or give whisp-bff a Redis of its own")
	}
	persistence, err := server.Info(ctx, "persistence").Result()
	if err != nil || infoField(persistence, "aof_enabled") != "0" {
		return advice
	}
	// INFO does not tell whether snapshots are taken.
	saving, err := server.ConfigGet(ctx, "save").Result()
	if save, known := saving["save"]; err == nil && known && save == "" {
		advice = append(advice, "persistence is off: a restart of Redis signs everybody out and forgets links; set appendonly yes")
	}
	return advice
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
