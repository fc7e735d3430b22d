package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// generated is a secret that keygen makes.
type generated struct {
	// name is that of its file, and of its key in a Kubernetes Secret.
	name string
	// section and key are where the configuration wants it.
	section, key string
	list         bool
	// byDefault: made unless others are named.
	byDefault bool
	// about says what it is for.
	about string
}

// generatedSecrets are the secrets of the configuration that are ours to choose.
// The client secret is the provider's, and the API key Whisp's.
var generatedSecrets = []generated{
	{"whisp-master-secret", "account", "master_secrets", true, true, "derives every account's Whisp password: back it up, losing it loses the accounts"},
	{"store-seal-key", "store", "seal_keys", true, true, "encrypts what is kept in Redis; needed for store.kind: redis"},
	{"server-admin-token", "server", "admin_token", false, true, "opens the admin API; without it there is none"},
	{"auth-proxy-secret", "identity.forwarded", "secrets", true, false, "proves an auth proxy in front; needed for the source forwarded"},
}

// secretSize is in bytes, from crypto/rand.
const secretSize = 48

// keygenOptions are the flags of keygen.
type keygenOptions struct {
	dir, format, name string
	stdout            bool
}

func newKeygen() *cobra.Command {
	var options keygenOptions
	var table strings.Builder
	for _, s := range generatedSecrets {
		fmt.Fprintf(&table, "  %-20s %s\n", s.name, s.about)
	}
	cmd := &cobra.Command{
		Use:   "keygen [NAME…]",
		Short: "Make the secrets that the configuration needs",
		Long: `Make secrets of 48 random bytes, in base64: one file for each in a directory, for
its owner only, and the lines of the configuration that refer to them. A file that
exists is never overwritten; then nothing is written at all.

` + table.String() + `
Without names the first three are made. The client secret comes from your identity
provider and the API key from Whisp: put them into files beside these.

Secrets are shown only where --stdout or --format ask for it.`,
		Example: `  whisp-bff keygen
  whisp-bff keygen --dir /etc/whisp-bff/secrets whisp-master-secret
  whisp-bff keygen --format env > whisp-bff.env
  whisp-bff keygen --format kubernetes-secret --name chat | kubectl apply -f -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := chosenSecrets(args)
			if err != nil {
				return err
			}
			return keygen(cmd.OutOrStdout(), cmd.ErrOrStderr(), chosen, options, rand.Reader)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return secretNames(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.dir, "dir", "secrets", "`directory` to write the files to; it is made if it is not there")
	flags.BoolVar(&options.stdout, "stdout", false, "print the secrets, as YAML if --format is not given, and write no files")
	flags.StringVar(&options.format, "format", "", "print the secrets as `env`, yaml or kubernetes-secret, and write no files")
	flags.StringVar(&options.name, "name", "whisp-bff", "name of the Kubernetes Secret")
	return cmd
}

func secretNames() []string {
	var names []string
	for _, s := range generatedSecrets {
		names = append(names, s.name)
	}
	return names
}

func chosenSecrets(names []string) ([]generated, error) {
	var chosen []generated
	for _, s := range generatedSecrets {
		if slices.Contains(names, s.name) || len(names) == 0 && s.byDefault {
			chosen = append(chosen, s)
		}
	}
	for _, name := range names {
		if !slices.Contains(secretNames(), name) {
			return nil, fmt.Errorf("%q is no secret of the configuration: write %s", name, strings.Join(secretNames(), ", "))
		}
	}
	return chosen, nil
}

func keygen(out, notes io.Writer, chosen []generated, options keygenOptions, random io.Reader) error {
	values := make([]secret.Text, len(chosen))
	for i := range values {
		bytes := make([]byte, secretSize)
		if _, err := io.ReadFull(random, bytes); err != nil {
			return fmt.Errorf("random bytes: %w", err)
		}
		values[i] = secret.New(base64.StdEncoding.EncodeToString(bytes))
	}
	format := options.format
	if format == "" && options.stdout {
		format = "yaml"
	}
	switch format {
	case "":
		return writeSecretFiles(out, notes, chosen, values, options.dir)
	case "yaml":
		writeReferences(out, chosen, func(i int) string { return "{value: " + values[i].Reveal() + "}" })
	case "env":
		for i, s := range chosen {
			fmt.Fprintf(out, "%s=%s\n", variable(s), values[i].Reveal())
		}
		writeReferences(notes, chosen, func(i int) string { return "{env: " + variable(chosen[i]) + "}" })
	case "kubernetes-secret":
		if !objectName.MatchString(options.name) {
			return errors.New("--name is no name of a Kubernetes object: use small letters, digits, dots and dashes")
		}
		fmt.Fprintf(out, "apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\ntype: Opaque\nstringData:\n", options.name)
		for i, s := range chosen {
			fmt.Fprintf(out, "  %s: %s\n", s.name, values[i].Reveal())
		}
		writeReferences(notes, chosen, func(i int) string { return "{file: /run/secrets/" + chosen[i].name + "}" })
	default:
		return errors.New("--format is not known: write env, yaml or kubernetes-secret")
	}
	return nil
}

// objectName is a DNS subdomain (RFC 1123), as Kubernetes wants.
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// variable is the name of a secret's environment variable.
func variable(s generated) string {
	return strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// writeReferences writes the lines of the configuration.
func writeReferences(w io.Writer, chosen []generated, source func(i int) string) {
	for i, s := range chosen {
		indent := ""
		for section := range strings.SplitSeq(s.section, ".") {
			fmt.Fprintf(w, "%s%s:\n", indent, section)
			indent += "  "
		}
		if s.list {
			fmt.Fprintf(w, "%s%s:\n%s  - %s\n", indent, s.key, indent, source(i))
		} else {
			fmt.Fprintf(w, "%s%s: %s\n", indent, s.key, source(i))
		}
	}
}

// writeSecretFiles makes all files or none.
func writeSecretFiles(out, notes io.Writer, chosen []generated, values []secret.Text, dir string) error {
	dir, err := filepath.Abs(dir) // relative names in the configuration start at its own directory
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var written []string
	for i, s := range chosen {
		path := filepath.Join(dir, s.name)
		err := writeNew(path, values[i].Reveal()+"\n")
		if err == nil {
			written = append(written, path)
			continue
		}
		for _, path := range written {
			_ = os.Remove(path) // nobody has used it yet
		}
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s exists and is not overwritten: nothing was written; name the secrets you want, or another --dir", path)
		}
		return err
	}
	for _, s := range chosen {
		fmt.Fprintf(notes, "wrote %s: %s\n", filepath.Join(dir, s.name), s.about)
	}
	fmt.Fprint(notes, "The lines for the configuration:\n\n")
	writeReferences(out, chosen, func(i int) string { return "{file: " + yamlText(filepath.Join(dir, chosen[i].name)) + "}" })
	return nil
}

// writeNew writes a file that must not be there, for its owner only.
func writeNew(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		_ = os.Remove(path) // half a secret is none
	}
	return err
}

var plainPath = regexp.MustCompile(`^[A-Za-z0-9_/.][A-Za-z0-9_/.-]*$`)

// yamlText quotes a text unless it is plain without doubt.
func yamlText(text string) string {
	if plainPath.MatchString(text) {
		return text
	}
	return strconv.Quote(text)
}
