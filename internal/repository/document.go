package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// A document is an indented JSON object whose last member is the digest of all that is before it:
//
//	{
//	  "format": "...",
//	  ...
//	  "digest": "<SHA-256 of the lines above, in hexadecimal>"
//	}
//
// so that `head -n -2 file | sha256sum` checks it (docs/FORMAT.md, "Documents").
const (
	digestBefore = "  \"digest\": \""
	digestAfter  = "\"\n}\n"
	digestLength = len(digestBefore) + 2*sha256.Size + len(digestAfter)
)

// Seal makes v, which must marshal to a JSON object with at least one member and no "digest", a
// document.
func Seal(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("seal document: %w", err)
	}
	body, isObject := bytes.CutSuffix(data, []byte("\n}"))
	if !isObject || body[0] != '{' {
		return nil, fmt.Errorf("seal document: %T is not a JSON object with members", v)
	}
	body = append(body, ",\n"...)
	digest := Digest(sha256.Sum256(body))
	return append(body, digestBefore+digest.String()+digestAfter...), nil
}

// Unseal checks a document and decodes it into v; key is for the error, a *CorruptError. Members
// that v does not know are ignored.
func Unseal(key string, data []byte, v any) error {
	if len(data) < digestLength {
		return &CorruptError{Key: key, Detail: "it is too short to be a document; it may be truncated"}
	}
	body, end := data[:len(data)-digestLength], data[len(data)-digestLength:]
	digest := Digest(sha256.Sum256(body))
	if want := digestBefore + digest.String() + digestAfter; string(end) != want {
		if !bytes.HasPrefix(end, []byte(digestBefore)) || !bytes.HasSuffix(end, []byte(digestAfter)) {
			return &CorruptError{Key: key, Detail: "it does not end with its digest; it may be truncated"}
		}
		got := end[len(digestBefore) : len(end)-len(digestAfter)]
		return &CorruptError{Key: key, Detail: "the content does not fit its digest", Want: digest.String(), Got: fmt.Sprintf("%q", got)}
	}
	if err := json.Unmarshal(data, v); err != nil {
		return &CorruptError{Key: key, Detail: "the digest fits but the content does not: " + err.Error()}
	}
	return nil
}

// CreateDocument seals v and writes it if there is no object with that key, else it fails with ErrExists.
func (r *Repository) CreateDocument(ctx context.Context, key string, v any) (ObjectRef, error) {
	data, err := Seal(v)
	if err != nil {
		return ObjectRef{}, fmt.Errorf("create %q: %w", key, err)
	}
	return r.Create(ctx, key, data, typeJSON)
}

// AdoptDocument seals v and writes it if there is no object with that key, else it reads the one
// that is there into v. So of racing attempts all go on with the same document. v points to a
// struct; it is set to its zero value before reading. created says whether this call wrote it.
func AdoptDocument[T any](ctx context.Context, r *Repository, key string, v *T) (ref ObjectRef, created bool, err error) {
	data, err := Seal(v)
	if err != nil {
		return ObjectRef{}, false, fmt.Errorf("adopt %q: %w", key, err)
	}
	ref, content, created, err := r.Adopt(ctx, key, data, typeJSON)
	if err != nil || created {
		return ref, created, err
	}
	var there T
	if err := Unseal(key, content, &there); err != nil {
		return ObjectRef{}, false, err
	}
	*v = there
	return ref, false, nil
}

// ReadDocument reads, checks and decodes a document by its key alone. ErrNotFound, *CorruptError.
func (r *Repository) ReadDocument(ctx context.Context, key string, v any) (ObjectRef, error) {
	data, err := r.Read(ctx, key)
	if err != nil {
		return ObjectRef{}, err
	}
	if err := Unseal(key, data, v); err != nil {
		return ObjectRef{}, err
	}
	return refOf(key, data), nil
}

// GetDocument reads a document that is referred to, and checks that it is that one.
func (r *Repository) GetDocument(ctx context.Context, ref ObjectRef, v any) error {
	data, err := r.Get(ctx, ref)
	if err != nil {
		return err
	}
	return Unseal(ref.Key, data, v)
}
