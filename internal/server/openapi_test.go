package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// openAPI is docs/openapi.yaml, read once for all tests. Every answer that a
// test gets from an endpoint described there is checked against it, and at the
// end every answer described there must have happened.
type openAPI struct {
	document map[string]any
	compiler *jsonschema.Compiler

	mu       sync.Mutex
	compiled map[string]*jsonschema.Schema // by JSON pointer
	missing  map[string]bool               // described and not seen yet
}

const openAPIFile = "../../docs/openapi.yaml"

var described = sync.OnceValues(readOpenAPI)

func readOpenAPI() (*openAPI, error) {
	raw, err := os.ReadFile(openAPIFile)
	if err != nil {
		return nil, err
	}
	asJSON, err := yaml.YAMLToJSON(raw)
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return nil, err
	}
	api := &openAPI{compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}, missing: map[string]bool{}}
	api.document, _ = document.(map[string]any)
	// The dialect of OpenAPI 3.1 is JSON Schema 2020-12.
	api.compiler.DefaultDraft(jsonschema.Draft2020)
	api.compiler.AssertFormat()
	if err := api.compiler.AddResource("openapi.json", document); err != nil {
		return nil, err
	}
	for path, item := range api.at("paths").(map[string]any) {
		for method, operation := range item.(map[string]any) {
			responses, ok := operation.(map[string]any)
			if !ok { // servers
				continue
			}
			for status := range responses["responses"].(map[string]any) {
				api.missing[strings.ToUpper(method)+" "+path+" "+status] = true
			}
		}
	}
	return api, nil
}

// at walks the document, following references.
func (a *openAPI) at(keys ...string) any {
	found, _ := a.find(keys...)
	return found
}

func (a *openAPI) find(keys ...string) (found any, pointer string) {
	found, pointer = a.document, "#"
	for _, key := range keys {
		object, _ := found.(map[string]any)
		if found = object[key]; found == nil {
			return nil, ""
		}
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		if object, ok := found.(map[string]any); ok && object["$ref"] != nil {
			return a.find(append(strings.Split(strings.TrimPrefix(object["$ref"].(string), "#/"), "/"), keys[slices.Index(keys, key)+1:]...)...)
		}
	}
	return found, pointer
}

// anywhere are the answers that every endpoint may give, described once in the
// text of the document.
var anywhere = map[int][]string{
	http.StatusBadRequest:            {"path_not_canonical"},
	http.StatusMisdirectedRequest:    {"host_unknown"},
	http.StatusForbidden:             {"origin_forbidden"},
	http.StatusMethodNotAllowed:      {"method_not_allowed"},
	http.StatusInternalServerError:   {"internal"},
	http.StatusServiceUnavailable:    {"shutting_down"},
	http.StatusUnauthorized:          {"admin_token_refused"},
	http.StatusNotFound:              {"not_found"}, // not configured
	http.StatusRequestTimeout:        {"body_invalid"},
	http.StatusSwitchingProtocols:    nil,
	http.StatusRequestEntityTooLarge: {"body_too_large"},
}

// check reports what is wrong with an answer of an endpoint.
func (a *openAPI) check(method, path string, admin bool, response *http.Response, body []byte) error {
	item, ok := a.at("paths", path).(map[string]any)
	if !ok || (item["servers"] != nil) != admin || method == http.MethodHead || method == http.MethodOptions {
		return nil // not ours, or a preflight
	}
	status := strconv.Itoa(response.StatusCode)
	where := []string{"paths", path, strings.ToLower(method), "responses", status}
	if a.at(where...) == nil {
		if path == "/auth/check" { // any method
			where[2] = "get"
		}
		if a.at(where...) == nil {
			return a.checkAnywhere(response.StatusCode, body)
		}
	}
	a.mu.Lock()
	delete(a.missing, strings.ToUpper(where[2])+" "+path+" "+status)
	a.mu.Unlock()
	if err := a.checkHeaders(where, response.Header); err != nil {
		return err
	}
	return a.checkBody(where, response.Header, body)
}

func (a *openAPI) checkAnywhere(status int, body []byte) error {
	var problem struct{ Code string }
	if json.Unmarshal(body, &problem) != nil || !slices.Contains(anywhere[status], problem.Code) {
		return fmt.Errorf("status %d is not described; body %.100q", status, body)
	}
	return a.validate("#/components/schemas/Problem", body)
}

func (a *openAPI) checkHeaders(where []string, got http.Header) error {
	headers, _ := a.at(append(where, "headers")...).(map[string]any)
	for name := range headers {
		header := append(slices.Clone(where), "headers", name)
		required, _ := a.at(append(header, "required")...).(bool)
		value := got.Get(name)
		if value == "" {
			if required {
				return fmt.Errorf("header %s is missing", name)
			}
			continue
		}
		_, pointer := a.find(append(header, "schema")...)
		encoded, _ := json.Marshal(value)
		if err := a.validate(pointer, encoded); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	return nil
}

func (a *openAPI) checkBody(where []string, got http.Header, body []byte) error {
	content, _ := a.at(append(where, "content")...).(map[string]any)
	if len(content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("a body is not described: %.100q", body)
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(got.Get("Content-Type"))
	if err != nil || content[media] == nil {
		return fmt.Errorf("content type %q is not described, only %q", media, slices.Sorted(maps.Keys(content)))
	}
	if !strings.HasSuffix(media, "json") {
		return nil
	}
	_, pointer := a.find(append(slices.Clone(where), "content", media, "schema")...)
	return a.validate(pointer, body)
}

func (a *openAPI) validate(pointer string, body []byte) error {
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	a.mu.Lock()
	schema := a.compiled[pointer]
	if schema == nil {
		if schema, err = a.compiler.Compile("openapi.json" + pointer); err == nil {
			a.compiled[pointer] = schema
		}
	}
	a.mu.Unlock()
	if err != nil {
		return err
	}
	return schema.Validate(instance)
}

// described wraps a client's transport.
type describedTransport struct {
	http.RoundTripper

	api *openAPI
	s   *stack
	t   testing.TB
}

func (d *describedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := d.RoundTripper.RoundTrip(r)
	if err != nil {
		return response, err
	}
	path := r.URL.Opaque
	if path == "" {
		path = r.URL.Path
	}
	admin := "http://"+r.URL.Host == d.s.admin
	if d.api.at("paths", path) == nil || (!admin && "http://"+r.URL.Host != d.s.base) {
		return response, nil
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return response, nil //nolint:nilerr // the test sees a short body, as without us
	}
	if err := d.api.check(r.Method, path, admin, response, body); err != nil {
		d.t.Errorf("%s %s answered what %s does not describe: %v", r.Method, path, openAPIFile, err)
	}
	return response, nil
}

// unseen are the answers described that no test got.
func (a *openAPI) unseen() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.missing) == 0 {
		return nil
	}
	return errors.New("described in " + openAPIFile + ", and seen in no test:\n  " + strings.Join(slices.Sorted(maps.Keys(a.missing)), "\n  "))
}
