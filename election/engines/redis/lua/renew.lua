-- Heartbeat. Restores a lease that is gone, and that no other worker holds, to keep the others off until the work ends;
-- the term is over nevertheless.
-- ARGV: prefix, lease (id:number), number, milliseconds, the new record
local p = ARGV[1]
local held = call('GET', p .. 'lease')
local record = call('GET', p .. 'record')
local term = tonumber(call('GET', p .. 'term') or '0')
if held and held ~= ARGV[2] then
  return 'taken'
end
if not held or term ~= tonumber(ARGV[3]) then
  local ours = record and string.find(record, '"' .. ARGV[2] .. '"', 1, true)
  if record and not (ours and string.find(record, '"standing":"leading"', 1, true)) then
    return 'ended'
  end
  if term < tonumber(ARGV[3]) then
    call('SET', p .. 'term', ARGV[3])
  end
  call('SET', p .. 'lease', ARGV[2], 'PX', ARGV[4])
  return held and 'overtaken' or 'gone'
end
local time = call('TIME')
call('PEXPIRE', p .. 'lease', ARGV[4])
call('SET', p .. 'beat', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
if record ~= ARGV[5] then
  call('SET', p .. 'record', ARGV[5])
  call('PUBLISH', p .. 'news', ARGV[5])
end
return 'ours'
