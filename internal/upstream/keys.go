package upstream

import (
	"sync/atomic"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// keys are the API keys in order of preference. One is in use; when Whisp
// refuses it, the next takes its place and stays. After the last comes the
// first again: it may have been restored.
type keys struct {
	list  []secret.Text
	inUse atomic.Int64
}

func (k *keys) current() (int64, secret.Text) {
	i := k.inUse.Load()
	return i, k.list[i]
}

// refuse moves on from key i, unless another call has done so already.
func (k *keys) refuse(i int64) {
	k.inUse.CompareAndSwap(i, (i+1)%int64(len(k.list)))
}
