package config

import (
	"net/url"
	"reflect"
	"strings"
)

// Notifications say who is told about an operation. Each channel is used when
// it has an address or key.
type Notifications struct {
	Webhook   Webhook   `json:"webhook,omitzero" doc:"Any HTTP endpoint: it gets a POST with the event as JSON (docs/OPERATING.md)."`
	Slack     Slack     `json:"slack,omitzero" doc:"Slack, or what understands its incoming webhooks (Mattermost, Rocket.Chat, Discord with /slack)."`
	PagerDuty PagerDuty `json:"pagerduty,omitzero" doc:"PagerDuty, Events API v2."`
}

// Events that can be told.
const (
	OnFailure = "failure" // the operation failed, timed out or was terminated
	OnSuccess = "success" // it completed
	OnWaiting = "waiting" // it waits for approval
)

// Webhook is a channel for any HTTP endpoint.
type Webhook struct {
	URL           Secret   `json:"url,omitzero" doc:"Address of the endpoint."`
	Authorization Secret   `json:"authorization,omitzero" doc:"Value of the Authorization header, for example Bearer and a token."`
	On            []string `json:"on,omitempty" split:"," doc:"What is told: failure, success, waiting (for approval). Left out: failure, waiting."`
}

// Slack is a channel for Slack's incoming webhooks.
type Slack struct {
	URL Secret   `json:"url,omitzero" doc:"Address of the incoming webhook. Who has it can write to the channel."`
	On  []string `json:"on,omitempty" split:"," doc:"What is told: failure, success, waiting (for approval). Left out: failure, waiting."`
}

// PagerDuty is a channel for PagerDuty's Events API v2.
type PagerDuty struct {
	RoutingKey Secret   `json:"routing_key,omitzero" doc:"Integration key of the service."`
	URL        string   `json:"url,omitempty" default:"https://events.pagerduty.com/v2/enqueue" doc:"Address of the Events API."`
	Severity   string   `json:"severity,omitempty" default:"error" oneof:"critical|error|warning|info" doc:"Severity of a failure."`
	On         []string `json:"on,omitempty" split:"," doc:"What is told: failure opens an incident, success resolves the one of the same schedule or operation, waiting opens one. Left out: failure, success."`
}

// Channels of [Notifications], as [Notifications.Channels] names them.
const (
	ChannelWebhook   = "webhook"
	ChannelSlack     = "slack"
	ChannelPagerDuty = "pagerduty"
)

// Channels lists the channels that are told about an event.
func (n Notifications) Channels(event string) []string {
	var names []string
	for _, c := range []struct {
		name          string
		used          bool
		on, byDefault []string
	}{
		{ChannelWebhook, !n.Webhook.URL.IsZero(), n.Webhook.On, []string{OnFailure, OnWaiting}},
		{ChannelSlack, !n.Slack.URL.IsZero(), n.Slack.On, []string{OnFailure, OnWaiting}},
		{ChannelPagerDuty, !n.PagerDuty.RoutingKey.IsZero(), n.PagerDuty.On, []string{OnFailure, OnSuccess}},
	} {
		on := c.on
		if len(on) == 0 {
			on = c.byDefault
		}
		if c.used && contains(on, event) {
			names = append(names, c.name)
		}
	}
	return names
}

// Used returns n, or the zero value when no channel is used.
func (n Notifications) Used() Notifications {
	if n.Webhook.URL.IsZero() && n.Slack.URL.IsZero() && n.PagerDuty.RoutingKey.IsZero() {
		return Notifications{}
	}
	return n
}

// Only returns the notifications with no event but one.
func (n Notifications) Only(event string) Notifications {
	var only Notifications
	for _, name := range n.Channels(event) {
		switch name {
		case ChannelWebhook:
			only.Webhook, only.Webhook.On = n.Webhook, []string{event}
		case ChannelSlack:
			only.Slack, only.Slack.On = n.Slack, []string{event}
		case ChannelPagerDuty:
			only.PagerDuty, only.PagerDuty.On = n.PagerDuty, []string{event}
		}
	}
	return only
}

func (n Notifications) check(r *report, key string) {
	events := []string{OnFailure, OnSuccess, OnWaiting}
	for _, c := range []struct {
		name, address string
		used          bool
		section       any
		on            []string
	}{
		{"webhook", "url", !n.Webhook.URL.IsZero(), n.Webhook, n.Webhook.On},
		{"slack", "url", !n.Slack.URL.IsZero(), n.Slack, n.Slack.On},
		{"pagerduty", "routing_key", !n.PagerDuty.RoutingKey.IsZero(), PagerDuty{On: n.PagerDuty.On}, n.PagerDuty.On},
	} {
		at := child(key, c.name)
		if !c.used && !reflect.ValueOf(c.section).IsZero() {
			r.add(child(at, c.address), "it is missing; write ${NAME} (an environment variable of the worker) or file:/path")
		}
		for i, event := range c.on {
			if !contains(events, event) {
				r.add(indexed(child(at, "on"), i), "%q is not possible here; write one of %s%s", event, strings.Join(events, ", "), suggest(event, events))
			}
		}
	}
	if u, err := url.Parse(n.PagerDuty.URL); n.PagerDuty.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		r.add(child(key, "pagerduty.url"), "%q is not an address; write https://host/path", n.PagerDuty.URL)
	}
}
