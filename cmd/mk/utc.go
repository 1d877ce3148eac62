package main

import (
	"reflect"
	"time"
)

// inUTC is a value to be printed with every time in it in UTC: those that come
// from Kubernetes and from journals stand in the zone of whoever read them. The
// value itself is left alone.
func inUTC(v any) any {
	if v == nil {
		return nil
	}
	return utc(reflect.ValueOf(v)).Interface()
}

func utc(v reflect.Value) reflect.Value {
	if t, ok := v.Interface().(time.Time); ok {
		return reflect.ValueOf(t.UTC())
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		out := reflect.New(v.Type().Elem())
		out.Elem().Set(utc(v.Elem()))
		return out
	case reflect.Struct:
		out := reflect.New(v.Type()).Elem()
		out.Set(v)
		utcFields(out)
		return out
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			out.Index(i).Set(utc(v.Index(i)))
		}
		return out
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeMapWithSize(v.Type(), v.Len())
		for _, k := range v.MapKeys() {
			out.SetMapIndex(k, utc(v.MapIndex(k)))
		}
		return out
	}
	return v
}

// utcFields changes a copy's fields, also those of a struct that is embedded in
// it under a name of its package.
func utcFields(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case f.IsExported():
			v.Field(i).Set(utc(v.Field(i)))
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			utcFields(v.Field(i))
		}
	}
}
