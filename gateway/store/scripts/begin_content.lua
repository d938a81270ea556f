-- KEYS[1] gw:{id}, the task's hash: writer, mode, size and state change
-- KEYS[2] gw:{id}:parts: parts beyond the contiguous ones are deleted
-- KEYS[3] gw:{id}:tail: read
-- ARGV: now, ttl, op, moves, offset, size ("" when the body does not tell)
-- Answers {JSON, tail}; JSON is "ok" with the task, also when the op comes again; "gone"; "state", "mode", "size" or
-- "offset" when the body does not fit; "forgotten" when the parts have vanished; "writer" when the op comes again and a
-- newer writer took over.
local now, ttl, op, moves, offset, size = unpack(ARGV)
local function told(outcome)
  return {answer(outcome), redis.call('GET', TAIL) or ''}
end
local first = redis.call('HMGET', TASK, 'state', 'mode', 'size', 'writer_op')
if not first[1] then
  return told('gone')
end
if version_of(op) then
  return told(first[4] == op and 'ok' or 'writer')
end
local state = moved(moves, first[1])
if not state then
  return told('state')
end
if (first[2] or 'content') ~= 'content' then
  return told('mode')
end
if size ~= '' and (first[3] or size) ~= size then
  return told('size')
end
if forgotten() then
  return told('forgotten')
end
mend(now, tonumber(ttl))
local known = redis.call('HMGET', TASK, 'next_offset', 'writer', 'stored_count', 'contiguous_count')
if number_of(known[1]) ~= tonumber(offset) then
  return told('offset')
end
local count = number_of(known[4])
if number_of(known[3]) > count then
  for _, number in ipairs(redis.call('HKEYS', PARTS)) do
    if tonumber(number) > count then
      redis.call('HDEL', PARTS, number)
    end
  end
end
open_window(now)
local writer = number_of(known[2])
local fields = {
  'ops', ops_with(op), 'writer', whole(writer + 1), 'writer_op', op, 'mode', 'content', 'state', state,
  'loaded', offset, 'stored_count', whole(count),
}
if size ~= '' then
  fields[#fields + 1], fields[#fields + 2] = 'size', size
end
commit(now, tonumber(ttl), fields)
if writer > 0 then
  tell_control()
end
return told('ok')
