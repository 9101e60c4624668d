"""The state machine of a job, as Lua that the broker runs atomically.

    QUEUED --acquire--> RUNNING --succeed--> SUCCEEDED
       ^                  | | |---fail-----> FAILED
       |---release/expire-| |-----cancel---> CANCELLED

Every script works on one job and takes the keys of `KEY_NAMES`, in that order. Times are read
from the broker, so that workers need not agree on the time of day. A writer proves that it still
owns the job by the fencing token of its lease; a script that finds another token changes nothing.

An attempt that runs outside of its worker (a Kubernetes Job) has its name in `follows`, which
outlives the lease: whoever acquires the job next goes on with the same attempt, and is not charged.
"""

from __future__ import annotations

KEY_NAMES = (
    "job",
    "changes",
    "metrics",
    "active",
    "dead_letters",
    "pending_runs",
    "index",
    "sequence",
    "request",
)
"""What each of KEYS[1] .. KEYS[9] names."""

_PRELUDE = """
local JOB, CHANGES, METRICS, ACTIVE, DEAD = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local RUNS, INDEX, SEQUENCE, REQUEST = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local function stamp(seconds) return string.format('%.6f', seconds) end
local function get(field) return redis.call('HGET', JOB, field) or '' end
local function number(field) return tonumber(get(field)) or 0 end
local function set(...) redis.call('HSET', JOB, ...) end
local function changed()
  redis.call('XADD', CHANGES, 'MAXLEN', '~', 64, '*', 'state', get('state'))
end
local function ended()
  local state = get('state')
  return state == 'SUCCEEDED' or state == 'FAILED' or state == 'CANCELLED'
end
local function holds(token) return get('state') == 'RUNNING' and get('fencing_token') == token end
local function live() return number('lease_expires_at') > now end
local function cancelling() return get('cancel_requested') == '1' end
local function finish(state, why, code)
  set('state', state, 'why', why, 'code', code, 'finished_at', stamp(now),
      'lease_owner', '', 'lease_expires_at', '0', 'due_at', '0', 'not_before', '0')
  redis.call('SREM', ACTIVE, get('id'))
  if get('run_id') ~= '' then redis.call('ZADD', RUNS, stamp(now), get('run_id')) end
  changed()
  return state
end
local function bury(why, code)
  redis.call('XADD', DEAD, 'MAXLEN', '~', 10000, '*',
             'job_id', get('id'), 'kind', get('kind'), 'why', why, 'code', code)
  return finish('FAILED', why, code)
end
local function finish_cancelled()
  return finish('CANCELLED', 'Cancelled: ' .. get('cancel_reason'), 'CANCELLED')
end
-- The attempt does its own work by now, and waits for nothing.
local function at_work()
  if get('at_work_since') == '' then set('at_work_since', stamp(now)) end
end
local function follows() return get('follows') ~= '' end
local function requeue(why, delay, grace)
  local due = delay > 0 and delay or grace
  set('state', 'QUEUED', 'why', why, 'lease_owner', '', 'lease_expires_at', '0',
      'not_before', stamp(delay > 0 and now + delay or 0), 'due_at', stamp(now + due))
  changed()
  return 'QUEUED'
end
"""

CREATE = (
    _PRELUDE
    + """
-- ARGV: id, request_id, body digest, kind, spec, queue, labels, run_id, grace
-- Returns "<id> <digest>" of the job that answers for this request.
local mine = ARGV[1] .. ' ' .. ARGV[3]
if redis.call('EXISTS', JOB) == 1 then return mine end
if ARGV[2] ~= '' then
  local first = redis.call('GET', REQUEST)
  if first then return first end
  redis.call('SET', REQUEST, mine)
end
local sequence = redis.call('INCR', SEQUENCE)
set('id', ARGV[1], 'request_id', ARGV[2], 'kind', ARGV[4], 'spec', ARGV[5], 'queue', ARGV[6],
    'labels', ARGV[7], 'run_id', ARGV[8], 'state', 'QUEUED', 'sequence', sequence,
    'why', 'Waiting for a worker on queue ' .. ARGV[6], 'created_at', stamp(now),
    'attempts', '0', 'charged', '0', 'fencing_token', '0', 'unavailable', '0',
    'not_before', '0', 'due_at', stamp(now + tonumber(ARGV[9])))
redis.call('ZADD', INDEX, sequence, ARGV[1])
redis.call('SADD', ACTIVE, ARGV[1])
changed()
return mine
"""
)

ACQUIRE = (
    _PRELUDE
    + """
-- ARGV: owner (unique per delivery), ttl, attempt cap
-- Returns {outcome, token, attempts}.
local state = get('state')
if state == '' then return {'missing'} end
if ended() then return {'ended'} end
if state == 'RUNNING' then
  if get('lease_owner') == ARGV[1] then
    return {'acquired', get('fencing_token'), get('attempts')}
  end
  if live() then return {'held'} end
  if cancelling() then finish_cancelled(); return {'ended'} end
end
if number('not_before') > now then return {'early'} end
if not follows() and number('charged') >= tonumber(ARGV[3]) then
  bury('Gave up after ' .. get('charged') .. ' attempts whose worker died; the last was ' ..
       string.gsub(get('lease_owner'), '#.*', ''), 'INTERNAL')
  return {'exhausted'}
end
-- The attempt is charged before any work, because a crash leaves nobody to charge it.
if not follows() then
  redis.call('HINCRBY', JOB, 'charged', 1)
  redis.call('HINCRBY', JOB, 'attempts', 1)
  set('at_work_since', '')
end
local attempts = get('attempts')
local token = redis.call('HINCRBY', JOB, 'fencing_token', 1)
if get('started_at') == '' then set('started_at', stamp(now)) end
set('state', 'RUNNING', 'lease_owner', ARGV[1],
    'lease_expires_at', stamp(now + tonumber(ARGV[2])),
    'why', 'Attempt ' .. attempts .. ' is running on ' .. string.gsub(ARGV[1], '#.*', ''))
changed()
return {'acquired', tostring(token), attempts}
"""
)

FOLLOW = (
    _PRELUDE
    + """
-- ARGV: token, name of what runs the attempt outside of its worker, or ''.
-- Returns {held, cancel requested}.
if not holds(ARGV[1]) then return {0, 0} end
set('follows', ARGV[2])
return {1, cancelling() and 1 or 0}
"""
)

EXPLAIN = (
    _PRELUDE
    + """
-- ARGV: token, why. Returns {held, cancel requested}; a cancellation's own reason stays.
if not holds(ARGV[1]) then return {0, 0} end
if cancelling() then return {1, 1} end
if get('why') ~= ARGV[2] then set('why', ARGV[2]); changed() end
return {1, 0}
"""
)

RENEW = (
    _PRELUDE
    + """
-- ARGV: token, ttl. Returns {held, cancel requested}.
if not holds(ARGV[1]) then return {0, 0} end
set('lease_expires_at', stamp(now + tonumber(ARGV[2])))
return {1, cancelling() and 1 or 0}
"""
)

PROGRESS = (
    _PRELUDE
    + """
-- ARGV: token, done, total, message. Returns {held, cancel requested}.
if not holds(ARGV[1]) then return {0, 0} end
at_work()
set('done', ARGV[2], 'total', ARGV[3], 'message', ARGV[4])
changed()
return {1, cancelling() and 1 or 0}
"""
)

APPEND_METRICS = (
    _PRELUDE
    + """
-- ARGV: token, stream bound, number of rows, (step, values as JSON)..., (name, newest value)...
-- Returns {held, cancel requested}.
if not holds(ARGV[1]) then return {0, 0} end
at_work()
local last = 3 + 2 * tonumber(ARGV[3])
for i = 4, last, 2 do
  redis.call('XADD', METRICS, 'MAXLEN', '~', ARGV[2], '*', 'step', ARGV[i], 'values', ARGV[i + 1])
end
for i = last + 1, #ARGV, 2 do set('metric:' .. ARGV[i], ARGV[i + 1]) end
changed()
return {1, cancelling() and 1 or 0}
"""
)

SUCCEED = (
    _PRELUDE
    + """
-- ARGV: token, artifact id, why. Returns 1 when the job now has this result.
if holds(ARGV[1]) then
  set('result', ARGV[2])
  finish('SUCCEEDED', ARGV[3], '')
  return 1
end
if get('state') == 'SUCCEEDED' and get('result') == ARGV[2] then return 1 end
return 0
"""
)

FAIL = (
    _PRELUDE
    + """
-- ARGV: token, why, code. Returns 1 when the job failed under this token.
if holds(ARGV[1]) then
  finish('FAILED', ARGV[2], ARGV[3])
  return 1
end
if get('state') == 'FAILED' and get('fencing_token') == ARGV[1] then return 1 end
return 0
"""
)

RELEASE = (
    _PRELUDE
    + """
-- ARGV: token, why, code, cause (crash | unavailable | stopped), attempt cap,
--       unavailable cap, longest delay, grace, seconds after which waits count anew
-- Returns the job's state afterwards, or '' when the lease was lost.
if not holds(ARGV[1]) then
  if get('fencing_token') == ARGV[1] then return get('state') end
  return ''
end
if cancelling() then return finish_cancelled() end
local why, code, cause = ARGV[2], ARGV[3], ARGV[4]
if cause == 'crash' then
  set('follows', '')
  if number('charged') >= tonumber(ARGV[5]) then
    return bury('Gave up after ' .. get('charged') .. ' attempts: ' .. why, code)
  end
  return requeue('Attempt ' .. get('attempts') .. ' failed and is repeated: ' .. why,
                 0, tonumber(ARGV[8]))
end
-- An attempt that goes on without its worker stays charged, once.
if cause == 'stopped' and follows() then return requeue(why, 0, tonumber(ARGV[8])) end
-- The job is not to blame, so the attempt is not charged.
redis.call('HINCRBY', JOB, 'charged', -1)
if cause == 'stopped' then return requeue(why, 0, tonumber(ARGV[8])) end
set('follows', '')
local since = tonumber(get('at_work_since'))
if since and now - since > tonumber(ARGV[9]) then set('unavailable', '0') end
local waits = redis.call('HINCRBY', JOB, 'unavailable', 1)
if waits > tonumber(ARGV[6]) then
  return bury('Gave up after waiting ' .. ARGV[6] .. ' times: ' .. why, code)
end
local delay = math.min(2 ^ (waits - 1), tonumber(ARGV[7]))
return requeue('Waiting ' .. delay .. ' s, then trying again: ' .. why, delay, 0)
"""
)

AWAIT_JOBS = (
    _PRELUDE
    + """
-- ARGV: token, ids of jobs as JSON, how many, grace
-- Returns the job's state afterwards, or '' when the lease was lost.
if not holds(ARGV[1]) then
  if get('fencing_token') == ARGV[1] then return get('state') end
  return ''
end
if cancelling() then return finish_cancelled() end
-- Nothing went wrong, so the attempt is not charged.
redis.call('HINCRBY', JOB, 'charged', -1)
set('waiting_for', ARGV[2], 'done', 0, 'total', ARGV[3], 'message', 'parts of the work',
    'follows', '')
return requeue('Waiting for ' .. ARGV[3] .. ' jobs that do parts of the work', 0,
               tonumber(ARGV[4]))
"""
)

NOTE_PARTS = (
    _PRELUDE
    + """
-- ARGV: parts ended, parts in all. Tells how far a waiting job's parts are.
if get('state') ~= 'QUEUED' or (get('waiting_for') or '') == '' then return 0 end
set('done', ARGV[1], 'total', ARGV[2],
    'why', ARGV[1] .. ' of ' .. ARGV[2] .. ' jobs that do parts of the work have ended')
changed()
return 1
"""
)

REQUEUE_EXPIRED = (
    _PRELUDE
    + """
-- ARGV: attempt cap, grace. Returns the new state, or '' when the lease is alive.
if get('state') ~= 'RUNNING' or live() then return '' end
if cancelling() then return finish_cancelled() end
local owner = string.gsub(get('lease_owner'), '#.*', '')
if follows() then
  return requeue('Worker ' .. owner .. ' stopped answering; Kubernetes Job ' .. get('follows') ..
                 ' goes on, and another worker takes over', 0, tonumber(ARGV[2]))
end
if number('charged') >= tonumber(ARGV[1]) then
  return bury('Gave up after ' .. get('charged') .. ' attempts whose worker died; the last was ' ..
              owner, 'INTERNAL')
end
return requeue('Worker ' .. owner .. ' stopped answering; waiting for another',
               0, tonumber(ARGV[2]))
"""
)

EXPIRE_LEASE = (
    _PRELUDE
    + """
-- ARGV: owner. Ends the lease of an owner that is known to be dead. Returns 1 when it was his.
if get('state') ~= 'RUNNING' or get('lease_owner') ~= ARGV[1] then return 0 end
set('lease_expires_at', '0')
return 1
"""
)

ADOPT_RESULT = (
    _PRELUDE
    + """
-- ARGV: artifact id. Ends an unattended job whose artifact exists. Returns 1 when it ended so.
if ended() or get('state') == '' or live() then return 0 end
set('result', ARGV[1])
finish('SUCCEEDED', 'Its artifact was found in the store after its worker was lost', '')
return 1
"""
)

TAKE_DUE = (
    _PRELUDE
    + """
-- ARGV: grace. Returns 1 when the caller shall send the job's message.
if get('state') ~= 'QUEUED' or number('due_at') > now then return 0 end
set('due_at', stamp(now + tonumber(ARGV[1])))
return 1
"""
)

CANCEL = (
    _PRELUDE
    + """
-- ARGV: reason. Returns the state afterwards; '' when there is no such job.
local state = get('state')
if state == '' or ended() then return state end
set('cancel_requested', '1', 'cancel_reason', ARGV[1])
if state == 'QUEUED' or not live() then return finish_cancelled() end
set('why', 'Cancelling: ' .. ARGV[1])
changed()
return state
"""
)

CONFIRM_CANCEL = (
    _PRELUDE
    + """
-- ARGV: token. The owner's word that the work has stopped. Returns 1 when cancelled.
if holds(ARGV[1]) and cancelling() then finish_cancelled(); return 1 end
return get('state') == 'CANCELLED' and 1 or 0
"""
)

CLEAR_PENDING_RUN = """
-- KEYS: pending runs. ARGV: run id, score seen before the run was advanced.
-- A job that ended meanwhile has raised the score, and the run stays pending.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if score and tonumber(score) == tonumber(ARGV[2]) then
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
"""
