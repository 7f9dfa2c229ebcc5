package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"text/tabwriter"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/components/azure"
	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/gateway/server"
)

func feedsCommand() *cobra.Command {
	return group("feeds", "Threat feeds and service tags: what a gateway has, and fetching them by hand",
		`  bulkhead feeds status
  bulkhead feeds fetch ruleset.yaml --feeds ./feeds
  bulkhead feeds tags --subscription 00000000-0000-0000-0000-000000000000 --location eastus2 --out ServiceTags.json`,
		feedsStatusCommand(), feedsFetchCommand(), feedsTagsCommand())
}

func feedsStatusCommand() *cobra.Command {
	var at admin
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say where a gateway's feeds and service tags are from, and how old they are",
		Long: `Asks the gateway on this machine. Exit code 0 where every feed and service tag of its
ruleset has data and every source answered when it was asked last, else 1.`,
		Example: `  bulkhead feeds status
  bulkhead feeds status --admin 127.0.0.1:9180 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r server.Readiness
			if err := at.get(cmd.Context(), "/readyz", &r); err != nil {
				return err
			}
			ok := len(r.Ruleset.Missing) == 0
			for _, s := range r.Data {
				ok = ok && s.Error == ""
			}
			var err error
			if asJSON {
				sources, missing := r.Data, r.Ruleset.Missing
				if sources == nil {
					sources = []feeds.Source{}
				}
				if missing == nil {
					missing = []string{}
				}
				err = printJSON(cmd.OutOrStdout(), map[string]any{"ok": ok, "sources": sources, "missing": missing})
			} else {
				err = printSources(cmd.OutOrStdout(), r.Data, time.Now())
				for _, m := range r.Ruleset.Missing {
					fmt.Fprintf(cmd.OutOrStdout(), "no data for %s: its group matches nothing\n", m)
				}
			}
			if err == nil && !ok {
				err = &exit{exitFailure, ""}
			}
			return err
		},
	}
	at.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

// printSources is a table of where data is from.
func printSources(w io.Writer, sources []feeds.Source, now time.Time) error {
	if len(sources) == 0 {
		_, err := fmt.Fprintln(w, "nothing is fetched")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range sources {
		fmt.Fprintf(table, "%s\t%d entries\t%s\t%s\n", sourceName(s), s.Entries, age(s, now), s.From)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range sources {
		if s.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", sourceName(s), s.Error)
		}
	}
	return nil
}

func sourceName(s feeds.Source) string {
	if s.Feed == "" {
		return "service tags"
	}
	return "feed " + s.Feed
}

// age says how long ago a source confirmed its data.
func age(s feeds.Source, now time.Time) string {
	if s.Current.IsZero() {
		return "never fetched"
	}
	return "current " + max(0, now.Sub(s.Current)).Truncate(time.Minute).String() + " ago"
}

func feedsFetchCommand() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "fetch RULESET --feeds DIR",
		Short: "Fetch the feeds that a ruleset names, and verify them as a gateway does",
		Long: `Asks the URL of each feed in a ruleset, as a gateway would: over HTTPS, from the Internet,
within its bounds, and with what it refuses. What is good is kept in the directory, which
is what --feeds of the policy commands reads. A feed that somebody put a file for, or whose
url is a file, is left alone.

Exit code 0, or 1 where a feed could not be fetched or was refused.`,
		Example: `  bulkhead feeds fetch ruleset.yaml --feeds ./feeds
  bulkhead policy check ruleset.yaml --feeds ./feeds`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return &usage{errors.New("--feeds is required: the directory to keep them in")}
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("ruleset: %w", err)
			}
			doc, err := policy.Decode(text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			sources := fetchFeeds(cmd.Context(), feeds.NewFetcher(dir, lookUp), doc)
			ok := true
			for _, s := range sources {
				ok = ok && s.Error == ""
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), map[string]any{"ok": ok, "sources": sources})
			} else {
				err = printSources(cmd.OutOrStdout(), sources, time.Now())
			}
			if err == nil && !ok {
				err = &exit{exitFailure, ""}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "feeds", "", "the directory that they are kept in (required)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

// lookUp asks the machine's own resolver.
func lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
}

// fetchFeeds fetches each feed once, and says how it went.
func fetchFeeds(ctx context.Context, f *feeds.Fetcher, doc *policy.Document) []feeds.Source {
	out := []feeds.Source{}
	seen := map[string]bool{}
	for _, g := range doc.ThreatGroups {
		for _, feed := range g.Feeds {
			if seen[feed.Name] || feeds.Host(feed.URL) == "" || f.Provided(feed) {
				continue
			}
			seen[feed.Name] = true
			_, err := f.Fetch(ctx, feed)
			s := f.Source(feed)
			if err != nil {
				s.Error = err.Error()
			}
			out = append(out, s)
		}
	}
	return out
}

func feedsTagsCommand() *cobra.Command {
	var subscription, location, out string
	cmd := &cobra.Command{
		Use:   "tags --subscription ID --location REGION --out FILE",
		Short: "Fetch Azure's service tags into a file",
		Long: `Asks Azure for its service tags, with the identity that az, a managed identity or the
environment gives, and writes the file that --service-tags of the policy commands and
serviceTags.file of a gateway read. It needs Microsoft.Network/locations/serviceTags/read
in the subscription.`,
		Example: `  bulkhead feeds tags --subscription 00000000-0000-0000-0000-000000000000 --location eastus2 --out ServiceTags.json
  bulkhead policy check ruleset.yaml --service-tags ServiceTags.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if subscription == "" || location == "" || out == "" {
				return &usage{errors.New("give --subscription, --location and --out")}
			}
			credential, err := azidentity.NewDefaultAzureCredential(nil)
			if err != nil {
				return err
			}
			d := feeds.Discovery{File: out, Ask: func(ctx context.Context) ([]byte, error) {
				return azure.ServiceTags(ctx, subscription, location, credential, azcore.ClientOptions{})
			}}
			if _, err := d.Fetch(cmd.Context()); err != nil {
				return err
			}
			meta, _, err := d.Kept()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d tags, %d prefixes, change %d\n", out, meta.Tags, meta.Prefixes, meta.ChangeNumber)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&subscription, "subscription", "", "the subscription's id")
	f.StringVar(&location, "location", "", "a region, such as eastus2")
	f.StringVar(&out, "out", "", "the file to write")
	return cmd
}
