"""..."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .postings import Forward

TERMS = 32
ROUNDS = 10
LEAF = 512
RARE = 1 / 16384
COMMON = 1 / 4

def step_costs(n: int) -> NDArray[np.int32]:
    from .reorder_kernels import STEPS
    x = np.arange(n + 2, dtype=np.float64)
    cost = x * np.log2(x + 1)
    return np.rint(np.diff(cost, prepend=0.0) * STEPS).astype(np.int32)

def reorder(forward: Forward, *, window: int = 4096, terms=None, rounds=None, leaf=None, mode="idf", verbose=False) -> NDArray[np.int64]:
    import time
    terms=terms or TERMS; rounds=rounds or ROUNDS; leaf=leaf or LEAF
    n = forward.starts.size-1
    order = np.arange(n)
    if n <= window:
        return order
    from . import reorder_kernels as K
    t0=time.process_time()
    df=K.frequencies(forward.terms)
    ok=(df>=max(8,n*RARE))&(df<=n*COMMON)
    w=np.where(ok,np.log(n/np.maximum(df,1)) if mode=="idf" else 1,0).astype(np.float32)
    t1=time.process_time()
    s,t=K.strongest(forward.starts,forward.terms,forward.values,w,terms,int(np.minimum(np.diff(forward.starts),2*terms).sum()))
    d=K.degrees(s,t,w.size,n)
    t2=time.process_time()
    graph=K.part(s,t,d,np.zeros(n,np.uint8),0)
    del s,t,d,w,df,ok
    if verbose: print("  df %.1f strongest %.1f part %.1f"%(t1-t0,t2-t1,time.process_time()-t2),"edges/doc",graph[1].size/n,"terms",graph[2])
    table=step_costs(n)
    stack=[(0,n,graph)]
    tt={}
    while stack:
        a,b,graph=stack.pop()
        t0=time.process_time()
        unit=window if b-a>window else leaf
        m=-(-(b-a)//unit)//2*unit
        side,left,total=K.halve(*graph,m,rounds,table)
        order[a:b]=np.concatenate([order[a:b][side==0],order[a:b][side==1]])
        for x,y,which,deg in ((a,a+m,0,left),(a+m,b,1,total-left)):
            if y-x>leaf: stack.append((x,y,K.part(graph[0],graph[1],deg,side,which)))
        k=(b-a).bit_length(); tt[k]=tt.get(k,0)+time.process_time()-t0
    if verbose: print("  levels",{k:round(v,2) for k,v in tt.items()},round(sum(tt.values()),1))
    return order
