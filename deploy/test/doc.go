// Package deploy tests what is in deploy/, and the Dockerfile: what a person
// installs, and no compiler looks at.
//
//   - The chart is linted and rendered by Helm itself, every object decoded
//     strictly into the types of its API (a misspelt field is an error, as it
//     would be for a strict API server), and looked at: pod security, selectors,
//     ports, how long a pod may take to end, and whether whisp-bff accepts the
//     configuration file that comes out.
//   - Alerts and dashboard are parsed by Prometheus' own parser, and every metric
//     and label in them looked up in docs/metrics.md.
//   - The Dockerfile's own build line is run, and its result is static.
//   - Examples are decoded as strictly, and their configurations validated.
//
// What is not tested: that a cluster, a container engine or a Gateway does with
// all this what its documentation says.
package deploy
