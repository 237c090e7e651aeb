-- State of the pool; writes the worker's presence, and the largest term number that the worker has seen (P2).
-- ARGV: prefix, that number, id of the worker or '' (writes no presence), the worker as JSON,
--       milliseconds for which the presence is valid
local p = ARGV[1]
if tonumber(ARGV[2]) > tonumber(call('GET', p .. 'term') or '0') then
  call('SET', p .. 'term', ARGV[2])
end
if ARGV[3] ~= '' then
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  try('ZADD', p .. 'seen', now + ARGV[5], ARGV[3])
  if try('HSET', p .. 'workers', ARGV[3], ARGV[4]) == 1 then
    call('PUBLISH', p .. 'joined', ARGV[4])
  end
  for _, gone in ipairs(try('ZRANGEBYSCORE', p .. 'seen', '-inf', now)) do
    try('ZREM', p .. 'seen', gone)
    try('HDEL', p .. 'workers', gone)
  end
end
return {
  call('GET', p .. 'lease') or '',
  call('PTTL', p .. 'lease'),
  call('GET', p .. 'record') or '',
  ARGV[3] ~= '' and not is_wrong(p .. 'workers', 'hash') and call('HVALS', p .. 'workers') or false
}
