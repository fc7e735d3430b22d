package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
)

// unreachable is the finding for a peer that could not be asked: in words where
// the cause is one that people meet. caFile is the setting that names the
// authorities to trust.
func unreachable(name string, err error, caFile string) Finding {
	f := Finding{Name: name, Status: Fail}
	f.Detail, f.Advice = connection(err, caFile)
	if f.Detail == "" {
		f.Detail = oneLine(err)
	}
	return f
}

// connection explains an error of DNS, TCP or TLS; empty if it is another.
func connection(err error, caFile string) (detail, advice string) {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsTimeout {
		return "the name " + dns.Name + " does not resolve", "correct it, or the DNS of this machine or container"
	}
	if detail, advice := certificate(err, caFile); detail != "" {
		return detail, advice
	}
	var record tls.RecordHeaderError
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.As(err, &record):
		return "does not speak TLS", "write http:// if it is meant to be without, or another port"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens" + at(err), "start it, or correct host and port"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route" + at(err), "correct the host, or the network of this machine or container"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isNet && timeout.Timeout():
		return "does not answer in time" + at(err), "look for a firewall or network policy in between, or give it more time with --timeout"
	case errors.Is(err, syscall.ECONNRESET), strings.HasSuffix(err.Error(), "EOF"):
		return "ends the connection without an answer", "look at its log; is it HTTPS, or another protocol?"
	}
	return "", ""
}

func certificate(err error, caFile string) (detail, advice string) {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "its certificate is signed by nobody this machine trusts", "put the authority's certificate into a file and name it in " + caFile
	case errors.As(err, &host):
		return "its certificate is for another name", "write the name in the certificate, or give the server another certificate"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired, or is not valid yet", "renew the certificate, or look at this machine's clock"
	case errors.As(err, &invalid):
		return "its certificate is not valid: " + invalid.Error(), "give the server another certificate"
	}
	return "", ""
}

// at is the address that was dialled, if the error tells.
func at(err error) string {
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Addr != nil {
		return " at " + dial.Addr.String()
	}
	return ""
}

// oneLine is the text of an error that nobody foresaw, short: libraries quote what
// a peer sent.
func oneLine(err error) string {
	const longest = 200
	text := strings.Join(strings.Fields(strings.ToValidUTF8(err.Error(), "?")), " ")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// unusable is the finding for a client that could not even be made, because of a
// file that has a finding of its own.
func unusable(name string, err error, file string) Finding {
	return Finding{name, Fail, oneLine(err), "see " + file + " above"}
}
